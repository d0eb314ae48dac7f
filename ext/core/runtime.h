// ext/core/runtime.h: what there is once in a process: the gate, our threads, the figures
#pragma once

#include "buffer.h"
#include "gate.h"
#include "hooks.h"
#include "interpreter.h"
#include "pool.h"
#include "roster.h"
#include "service.h"

#include <aiobridge/c_api.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string_view>

namespace aiobridge::core {

class Channel;

/// Work that needs the GIL and comes from a thread that does not have it, or that may not run foreign code. Done by the
/// next drain of any loop, when the next bridge is made, by stats(), or at exit.
class Deferred : public Node {
public:
    virtual ~Deferred() = default;
    /// GIL. `loop` is the loop of the drain, borrowed, or null. -1 with an error that must pass, else none is left.
    virtual int run(_object *loop) = 0;
};

enum class WakeMode : std::uint8_t { call_soon, fd };

/// Figures for stats(). Relaxed throughout: they are looked at, and order nothing.
struct Figures {
    std::atomic<std::uint64_t> wakes{0};        // loops woken
    std::atomic<std::uint64_t> drains{0};       // drains that found something
    std::atomic<std::uint64_t> deliveries{0};   // items that drains handed to Python
    std::atomic<std::uint64_t> fd_fallbacks{0}; // loops that asked for `fd` and have no readers
    std::atomic<std::uint64_t> misuses{0};      // promises fulfilled twice
};

/// Made when the module is imported, never destroyed: threads of anyone may hold handles for ever. A child process gets
/// a new one, and leaves the parent's alone: its locks and lists are as other threads happened to hold them.
class Runtime {
public:
    /// The runtime of this process.
    static Runtime &current() noexcept { return *current_.load(std::memory_order_acquire); }
    /// GIL. At import, and in a child process.
    static void start();

    /// Why nothing is accepted any more; `open` while the runtime runs. Any thread. Every handle's first question, so
    /// it is one relaxed load: who still sees `open` meets the closed inboxes.
    aiobridge_reason closed() const noexcept { return closed_.load(std::memory_order_relaxed); }
    bool forked() const noexcept { return closed() == AIOBRIDGE_FORKED; }
    void set_closed(aiobridge_reason reason) noexcept { closed_.store(reason, std::memory_order_relaxed); }

    /// Any thread, never blocks.
    void defer(Deferred *work) noexcept;
    /// GIL. -1 with an error that must pass; all the work is done all the same. Two threads that come here at once
    /// share it: each takes a chain of its own.
    int run_deferred(_object *loop);
    /// Any thread. Ends an error that nobody took. It may own a Python exception, as pybind11's error_already_set does,
    /// whose end takes the GIL: on a thread that does not hold it the error is kept for a drain.
    void drop_error(const aiobridge_type &, void *error) noexcept;
    /// Any thread, a hint: somebody waits for a drain to do it.
    bool has_deferred() const noexcept { return deferred_.holds(); }
    /// Any thread. The text goes to a loop's exception handler, or, at exit, to the logger "aiobridge". The exception,
    /// if there is one, goes with it: a new reference, taken over. Nothing is told when there is no memory for it.
    void report(std::string_view message, _object *exception = nullptr) noexcept;

    /// Any thread. The text goes to the logger "aiobridge", at level DEBUG, with the deferred work.
    void log(std::string_view message) noexcept;

    /// For result() on a thread without a loop: a completion that finds a waiter notifies.
    void notify_waiters() noexcept;
    template <class Predicate, class Time> void wait(Predicate predicate, Time until) {
        std::unique_lock lock(waiting_);
        ++waiting_threads_;
        waiters_.wait_until(lock, until, predicate);
        --waiting_threads_;
    }
    /// Any thread. Those that sleep in wait(): one that only looks holds the lock meanwhile.
    unsigned waiting_threads() noexcept {
        const std::lock_guard lock(waiting_);
        return waiting_threads_;
    }

    Gate gate;      // for the threads of everybody
    Gate hook_gate; // for the hook thread, which at exit goes on when nobody else may enter
    Service hooks;
    Service notifier;
    Pool pool;
    Figures figures;
    Roster<Channel> channels;
    Counts past_events; // of channels that are gone; guarded by the roster's lock

    const Interpreter interpreter;
    _ts *notifier_thread = nullptr; // the notifier's own; touched by that thread alone, inside the gate
    std::atomic<WakeMode> wake_mode{WakeMode::call_soon}; // relaxed. For loops to come

private:
    Runtime();
    static inline std::atomic<Runtime *> current_{nullptr};

    std::atomic<aiobridge_reason> closed_{AIOBRIDGE_OPEN};
    Inbox deferred_;
    std::mutex waiting_; // held for the notification and the look at the word, over nobody's code
    std::condition_variable waiters_;
    unsigned waiting_threads_ = 0; // guarded by waiting_
};

} // namespace aiobridge::core
