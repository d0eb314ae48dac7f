// ext/core/waker.h: two ways to wake a loop from a thread that has no GIL
#pragma once

#include "pause.h"
#include "service.h"

namespace aiobridge::core {

/// Called by the post that found the inbox idle.
class Waker {
public:
    virtual ~Waker() = default;
    /// Any thread, without the GIL, never blocks.
    virtual void wake() noexcept = 0;
};

/// A descriptor that the loop watches: an eventfd on Linux, elsewhere a pair of sockets. Nobody takes the GIL.
class Signal {
public:
    /// Throws std::system_error when no descriptor can be had.
    Signal();
    ~Signal();
    Signal(const Signal &) = delete;
    Signal &operator=(const Signal &) = delete;

    int descriptor() const noexcept { return read_; }
    /// Makes the descriptor readable. Any thread, never blocks.
    void set() noexcept;
    /// Makes it unreadable until the next set(). Loop thread, never blocks.
    void clear() noexcept;
    /// For the child process: lets go of the descriptors, which are the parent's too, and makes the destructor keep
    /// off.
    void forget() noexcept;

private:
    int read_, write_;
};

class SignalWaker final : public Waker {
public:
    explicit SignalWaker(Signal &signal) noexcept : signal_(signal) {}
    void wake() noexcept override { signal_.set(); }

private:
    Signal &signal_; // the bridge's, and closed only when no producer holds the bridge: never a recycled descriptor
};

/// Asks a thread of ours, the notifier, to call the loop. There is one notifier for all loops; it alone takes the GIL.
class NotifierWaker final : public Waker, public Node {
public:
    NotifierWaker(Service &notifier, void *owner, void (*retain)(void *)) noexcept
        : owner(owner), notifier_(notifier), retain_(retain) {}
    void wake() noexcept override {
        // The node may still wait for the notifier: the loop drained without its call, and has become idle again. Then
        // the call is still to come. Acq_rel: with taken(), so that a wake is either seen before the call or posted
        // anew.
        AIOBRIDGE_PAUSE("waker.wake");
        if (queued_.exchange(true, std::memory_order_acq_rel))
            return;
        AIOBRIDGE_PAUSE("waker.queued");
        retain_(owner); // the notifier releases it
        notifier_.post(this);
    }
    /// The notifier has the node, and calls the loop now.
    void taken() noexcept { queued_.exchange(false, std::memory_order_acq_rel); }

    void *const owner;

private:
    Service &notifier_;
    void (*retain_)(void *);
    std::atomic<bool> queued_{false};
};

} // namespace aiobridge::core
