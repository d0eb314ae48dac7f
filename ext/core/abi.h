// ext/core/abi.h: the table of functions that extensions use
#pragma once

#include "python.h"

namespace aiobridge::core {

/// Publishes the table as a capsule of the module.
int register_abi(PyObject *module) noexcept;

} // namespace aiobridge::core
