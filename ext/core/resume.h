// ext/core/resume.h: calls what waits for a future, directly where that is legal
#pragma once

#include "future.h"

namespace aiobridge::core {

/// GIL. Detaches the callbacks of a future that is done, and calls them or has the loop call them. `direct`: inside a
/// drain that may resume tasks. -1 with an error that must pass; the callbacks are taken care of all the same.
int run_callbacks(Future *, bool direct) noexcept;

/// GIL. One callback through loop.call_soon. -1 as above.
int call_soon(Future *, PyObject *callback, PyObject *context) noexcept;

} // namespace aiobridge::core
