// ext/core/exit.h: the interpreter's exit, and the child after a fork
#pragma once

#include "python.h"

#include <chrono>

namespace aiobridge::core {

/// GIL. How long the exit waits for threads that are inside the interpreter, and then for hooks. Tests shorten it.
inline std::chrono::nanoseconds exit_patience = std::chrono::seconds(5);

/// Called by atexit: the interpreter is alive, and threads that Python waits for have ended. After it nothing of ours
/// enters the interpreter. GIL.
void at_exit() noexcept;

/// Called by os.register_at_fork in the child. GIL.
void after_fork_in_child() noexcept;

} // namespace aiobridge::core
