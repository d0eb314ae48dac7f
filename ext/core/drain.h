// ext/core/drain.h: delivers what was posted to a loop
#pragma once

#include "python.h"

namespace aiobridge::core {

class Bridge;

/// The callable that the loop calls. Holds the bridge; its end closes it.
PyObject *make_drain(Bridge &) noexcept;
int register_drain(PyObject *module) noexcept;

} // namespace aiobridge::core
