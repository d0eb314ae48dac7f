// ext/core/future_type.h: the Python type aiobridge.Future
#pragma once

#include "python.h"

namespace aiobridge::core {

/// Made at import, never released.
extern PyTypeObject *future_type;

int register_future(PyObject *module) noexcept;

} // namespace aiobridge::core
