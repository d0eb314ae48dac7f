// ext/core/gate.h: lets threads of ours into the interpreter, until it exits
#pragma once

#include "pause.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace aiobridge::core {

/// A thread that Python does not know enters before it asks for the GIL and leaves after it has released it. Once the
/// gate is closed, at exit, none enters: asking for the GIL of an interpreter that exits crashes or hangs the thread,
/// on most versions of Python, and `Py_IsFinalizing()` cannot be asked without a race.
///
/// Atomics only, so that a child process can start with a new one.
class Gate {
public:
    /// Any thread, never blocks. False: the interpreter exits; touch nothing of Python, not even a reference count.
    bool enter() noexcept {
        // Load, then compare and exchange: unconditional increments by spinning threads would keep the word from ever
        // reading "closed and empty". Acquire: what the interpreter was before we enter.
        std::uint64_t state = state_.load(std::memory_order_relaxed);
        while (!(state & closed_bit)) {
            AIOBRIDGE_PAUSE("gate.enter");
            if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire, std::memory_order_relaxed))
                return true;
        }
        return false;
    }
    // Release: whoever closes the gate sees what we did inside.
    void leave() noexcept {
        AIOBRIDGE_PAUSE("gate.leave");
        state_.fetch_sub(1, std::memory_order_release);
    }

    /// Lets nobody in any more.
    void close() noexcept { state_.fetch_or(closed_bit, std::memory_order_acq_rel); }
    bool is_closed() const noexcept { return state_.load(std::memory_order_acquire) & closed_bit; }

    /// Without the GIL, after close(). True when all have left; false if some have not when the time is over.
    template <class Rep, class Period> bool wait_until_empty(std::chrono::duration<Rep, Period> limit) noexcept {
        const auto deadline = std::chrono::steady_clock::now() + limit;
        while (state_.load(std::memory_order_acquire) != closed_bit) {
            if (std::chrono::steady_clock::now() >= deadline)
                return false;
            std::this_thread::sleep_for(std::chrono::microseconds(100));
        }
        return true;
    }

private:
    static constexpr std::uint64_t closed_bit = std::uint64_t{1} << 63; // the other bits count the threads inside
    std::atomic<std::uint64_t> state_{0};
};

} // namespace aiobridge::core
