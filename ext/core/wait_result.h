// ext/core/wait_result.h: Future.result() where no loop can bring the result: it waits
#pragma once

#include "future.h"

#include <chrono>

namespace aiobridge::core {

/// GIL. How long a thread sleeps before it looks for signals, and whether the loop still runs. What ends its wait wakes
/// it at once.
inline std::chrono::nanoseconds look_interval = std::chrono::milliseconds(50);

/// GIL, given up meanwhile. Waits for a future of another thread's loop, or of none. `timeout` may be null or None. 0:
/// done, or not to be waited for here; -1 with an error.
int wait_for_result(Future *, PyObject *timeout) noexcept;

} // namespace aiobridge::core
