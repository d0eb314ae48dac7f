// ext/core/collect.h: events out of the buffer and into Python
#pragma once

#include "next.h"
#include "python.h"

namespace aiobridge::core {

struct Stream;

/// GIL, loop thread. What the request asks for, as far as it is there. Null with an error: a conversion's, or the end;
/// null without: there is nothing yet.
PyObject *collect(Stream *, const Request &) noexcept;

} // namespace aiobridge::core
