// ext/core/python_hook.h: a Python function as a hook
#pragma once

#include "python.h"

#include <aiobridge/c_api.h>

namespace aiobridge::core {

/// Calls function(CloseReason) on the hook thread, which takes the GIL for it, in a copy of the context in which the
/// hook was made; and drops the function there. An exception goes to a loop's exception handler.
///
/// GIL. Gives the hook to `install`, which answers 0 when it has taken it: None; or null with an error.
PyObject *install_python_hook(PyObject *function, const char *method, int (*install)(void *to, const aiobridge_hook &),
                              void *to) noexcept;

} // namespace aiobridge::core
