// ext/core/testing.h: what this project's own tests need, and nobody else
#pragma once

#include "python.h"

namespace aiobridge::core {

/// GIL. After register_future.
int register_testing(PyObject *module) noexcept;

} // namespace aiobridge::core
