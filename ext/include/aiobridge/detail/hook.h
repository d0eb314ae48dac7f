// aiobridge/detail/hook.h: a C++ function as a hook of the runtime
#pragma once

#include <aiobridge/detail/runtime.h>

#include <exception>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN

/// What happened to an item. The first three mean it was accepted.
enum class fate : aiobridge_fate {
    accepted = AIOBRIDGE_ACCEPTED,
    evicted_oldest = AIOBRIDGE_EVICTED_OLDEST, ///< accepted; the oldest item made room
    merged = AIOBRIDGE_MERGED,                 ///< accepted; now part of an item that waits
    dropped = AIOBRIDGE_DROPPED,
    full = AIOBRIDGE_FULL,
    closed = AIOBRIDGE_CLOSED, ///< nobody will ever take it: close_reason() says why
    timed_out = AIOBRIDGE_TIMED_OUT,
    would_deadlock = AIOBRIDGE_WOULD_DEADLOCK,
    no_memory = AIOBRIDGE_NO_MEMORY,
    already_set = AIOBRIDGE_ALREADY_SET, ///< misuse: the promise was fulfilled before
};

/// Why a promise or a stream takes nothing more.
enum class close_reason : aiobridge_reason {
    open = AIOBRIDGE_OPEN, ///< it does
    finished = AIOBRIDGE_FINISHED,
    failed = AIOBRIDGE_FAILED,
    consumer_closed = AIOBRIDGE_CONSUMER_CLOSED,
    abandoned = AIOBRIDGE_ABANDONED,
    cancelled = AIOBRIDGE_CANCELLED,
    scope_exit = AIOBRIDGE_SCOPE_EXIT,
    loop_closed = AIOBRIDGE_LOOP_CLOSED,
    interpreter_exit = AIOBRIDGE_INTERPRETER_EXIT,
    forked = AIOBRIDGE_FORKED,
};

/// Why an operation was cancelled: one of the reasons from consumer_closed on.
using cancel_reason = close_reason;

namespace detail {

// Calls a hook, which nobody can catch from.
template <class Call> void reporting(Call call) {
    try {
        call();
    }
    AIOBRIDGE_RETHROW_FORCED_UNWIND
    catch (const std::exception &error) {
        try {
            api().report((std::string("a hook of a native extension threw: ") + error.what()).c_str());
        } catch (const std::bad_alloc &) {
            api().report(error.what());
        }
    }
    catch (...) {
        api().report("a hook of a native extension threw something that is no std::exception");
    }
}

template <class F> void run_hook(void *context, aiobridge_reason reason) {
    reporting([&] { (*static_cast<F *>(context))(static_cast<close_reason>(reason)); });
}

template <class F> void destroy_hook(void *context) { delete static_cast<F *>(context); }

[[noreturn]] inline void throw_not_installed() {
    throw std::system_error(std::make_error_code(std::errc::resource_unavailable_try_again),
                            "aiobridge: the hook could not be installed, because the hook thread could not be "
                            "started, memory ran out or the process was forked; the operation goes on without it");
}

/// Hands `function` to `install`, which answers -1 when it did not take it.
template <class F, class Install> void install_hook(F &&function, Install install) {
    using Function = std::decay_t<F>;
    static_assert(std::is_invocable_v<Function &, close_reason>,
                  "aiobridge: a hook is called with one aiobridge::close_reason (alias cancel_reason)");
    auto owned = std::make_unique<Function>(std::forward<F>(function));
    const aiobridge_hook hook{sizeof(aiobridge_hook), 0, &run_hook<Function>, &destroy_hook<Function>, owned.get()};
    if (install(hook) != 0)
        throw_not_installed();
    owned.release();
}

} // namespace detail
AIOBRIDGE_NAMESPACE_END
