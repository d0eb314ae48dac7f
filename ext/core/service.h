// ext/core/service.h: a thread of ours that serves an inbox
#pragma once

#include "inbox.h"
#include "pause.h"
#include "thread_name.h"

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>

namespace aiobridge::core {

/// A named thread that calls `serve` with each node posted to it, one after another, in the order of the posts of each
/// thread. Started at the first need, detached, never joined: at exit the process ends under it, so a Service must
/// never be destroyed.
class Service {
public:
    /// `serve` is not noexcept: a thread that asks for the GIL may be ended by unwinding.
    Service(const char *name, void (*serve)(Node *)) noexcept : name_(name), serve_(serve) {}
    Service(const Service &) = delete;
    Service &operator=(const Service &) = delete;

    /// Any thread. Throws std::system_error if the thread cannot be started; the next call tries again. Called when
    /// something is created that will post later, so that the post itself cannot fail.
    void start() {
        if (started_.load(std::memory_order_acquire))
            return;
        const std::lock_guard lock(starting_);
        if (started_.load(std::memory_order_relaxed))
            return;
        std::thread([this] { run(); }).detach();
        started_.store(true, std::memory_order_release);
    }

    bool is_started() const noexcept { return started_.load(std::memory_order_acquire); }

    /// Any thread, never blocks. start() has returned before.
    void post(Node *node) noexcept {
        if (inbox_.post(node) == Posted::wake)
            wake();
    }

private:
    void wake() noexcept {
        // Release, acquire: none is needed for the nodes (the inbox orders those), only that the number changes.
        wakes_.fetch_add(1, std::memory_order_release);
        AIOBRIDGE_PAUSE("service.wake");
        wakes_.notify_one();
    }

    void run() {
        name_this_thread(name_);
        for (;;) {
            // Read before resting: a wake that comes after the rest changes the number and ends the wait at once.
            const std::uint32_t seen = wakes_.load(std::memory_order_acquire);
            Batch batch = inbox_.take();
            while (Node *node = batch.pop())
                serve_(node);
            AIOBRIDGE_PAUSE("service.rest");
            if (inbox_.rest()) {
                AIOBRIDGE_PAUSE("service.wait");
                wakes_.wait(seen, std::memory_order_acquire);
            }
        }
    }

    const char *name_;
    void (*serve_)(Node *);
    Inbox inbox_;
    std::atomic<std::uint32_t> wakes_{0}; // counts wakes, and wraps
    std::mutex starting_;                 // held while the thread is made, over nobody's code
    std::atomic<bool> started_{false};
};

} // namespace aiobridge::core
