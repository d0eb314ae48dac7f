// ext/core/wait_result.h: Future.result() where no loop can bring the result: it waits
#pragma once

#include "future.h"

namespace aiobridge::core {

/// GIL, given up meanwhile. Waits for a future of another thread's loop, or of none. `timeout` may be null or None. 0:
/// done, or not to be waited for here; -1 with an error.
int wait_for_result(Future *, PyObject *timeout) noexcept;

} // namespace aiobridge::core
