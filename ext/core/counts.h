// ext/core/counts.h: the figures of a stream as a Python object
#pragma once

#include "buffer.h"
#include "python.h"

namespace aiobridge::core {

/// GIL. An aiobridge.StreamStats: a new reference.
PyObject *make_stream_stats(const Counts &) noexcept;

} // namespace aiobridge::core
