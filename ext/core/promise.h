// ext/core/promise.h: aiobridge.Promise, with which Python code on any thread completes a Future
#pragma once

#include "python.h"

namespace aiobridge::core {

/// Adds the type, and make_promise().
int register_promise(PyObject *module) noexcept;

} // namespace aiobridge::core
