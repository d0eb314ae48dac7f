// ext/core/bridge.h: what there is once for each loop: the inbox, the waker, and the Python objects that belong to it
#pragma once

#include "counted.h"
#include "inbox.h"
#include "item.h"
#include "locked.h"
#include "python.h"
#include "runtime.h"
#include "waker.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

namespace aiobridge::core {

class Bridge;

/// A Python object that belongs to a loop while it is open: a pending Future, an open Stream. In a doubly linked list,
/// so that closing the loop reaches each. GIL; guarded by the bridge's lock.
struct Member {
    Member *previous = nullptr, *next = nullptr;
    PyObject *object = nullptr; // itself, borrowed
    /// The loop is closed, or the interpreter exits. Perhaps twice, without a GIL on two threads at once: a Future's or
    /// Stream's state is final when either returns; a call may still be on its way to be refused. `drop_now`: as
    /// Bridge::close.
    void (*loop_closed)(PyObject *object, aiobridge_reason, bool drop_now) = nullptr;
    bool linked() const noexcept { return previous != nullptr; }
};

/// A reference to a bridge, or null. Any thread.
class BridgeRef {
public:
    BridgeRef() noexcept = default;
    /// Takes over a reference.
    explicit BridgeRef(Bridge *owned) noexcept : bridge_(owned) {}
    BridgeRef(BridgeRef &&other) noexcept : bridge_(std::exchange(other.bridge_, nullptr)) {}
    BridgeRef &operator=(BridgeRef &&other) noexcept {
        const BridgeRef old(std::exchange(bridge_, other.release()));
        return *this;
    }
    ~BridgeRef();
    Bridge *get() const noexcept { return bridge_; }
    Bridge &operator*() const noexcept { return *bridge_; }
    Bridge *operator->() const noexcept { return bridge_; }
    Bridge *release() noexcept { return std::exchange(bridge_, nullptr); }
    explicit operator bool() const noexcept { return bridge_ != nullptr; }

private:
    Bridge *bridge_ = nullptr;
};

/// Made on the loop's thread. Producers hold it by references, long after the loop is gone: then it answers `refused`.
///
/// Who holds what: the loop holds the reader (with its descriptor, or, if it has no readers, a timer) and now and then
/// the drain (in a handle); both hold the bridge. The bridge holds the drain, until it is closed, and the loop weakly.
/// Nothing of ours keeps a loop alive; and the end of the reader is how we learn that the loop was closed.
class Bridge final : Counted<Bridge> {
public:
    using Counted<Bridge>::live;

    /// The bridge of the loop that runs in this thread, made if need be. GIL. Null without an error where no loop runs;
    /// null with one if the bridge cannot be made.
    static BridgeRef of_running_loop();
    /// GIL. The bridge of this loop, made if need be; null with an error. On the thread that runs the loop, or before
    /// any does: two threads could make two bridges.
    static BridgeRef of(PyObject *loop);
    static BridgeRef make(PyObject *loop, WakeMode mode);
    static BridgeRef find(PyObject *loop) noexcept;
    /// GIL. As nudge, for work that any loop can do.
    static void nudge_any() noexcept;
    /// GIL. At exit.
    static void close_all(aiobridge_reason reason);
    /// In a child process.
    static void forget_all() noexcept;

    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    Bridge *retained() noexcept {
        retain();
        return this;
    }
    void release() noexcept;

    /// Any thread, without the GIL, never blocks. False: the loop is gone, the item is still the caller's.
    bool post(Item *item) noexcept;
    /// Any thread. Has the loop drain, though nothing may be posted: for deferred work.
    void nudge() noexcept;

    /// GIL. Closes the inbox and everything that belongs to the loop. Idempotent. `drop_now`: this thread may run the
    /// destructors of the tasks that waited; the notifier may not, and hands the references on.
    void close(aiobridge_reason reason, bool drop_now);
    /// GIL. The loop could not be called: closes, and reports the pending error unless it is that the loop is closed.
    /// -1 with an error that must pass, which came when the loop was asked.
    int give_up(PyObject *loop, bool drop_now);
    bool is_closed() const noexcept { return inbox.is_closed() || runtime.closed(); }

    /// GIL: a new reference, null when the loop is gone.
    Ref loop() noexcept;
    /// GIL. For reprs: new text, or null with an error. The bridge may be null.
    static Ref loop_text(Bridge *) noexcept;
    bool is_loop(PyObject *loop) const noexcept { return loop == loop_key_; }
    /// GIL. True on the thread that runs this loop.
    bool runs_here() const noexcept { return running_loop() == loop_key_; }
    WakeMode mode() const noexcept { return mode_; }
    bool has_readers() const noexcept { return has_readers_; }

    /// Any thread: the one that ran the loop last, which is the loop's own.
    std::thread::id thread() const noexcept { return thread_.load(std::memory_order_relaxed); }
    /// GIL, in a coroutine or callback of the loop.
    void runs_on_this_thread() noexcept { thread_.store(std::this_thread::get_id(), std::memory_order_relaxed); }

    /// GIL. Members. False: the bridge is closed, and the caller has to tell the member so.
    bool link(Member &member) noexcept;
    /// Without effect on one that is not linked.
    void unlink(Member &member) noexcept;

    /// On the notifier, GIL: calls loop.call_soon_threadsafe(drain).
    void call_loop();

    Runtime &runtime;
    Inbox inbox;
    Signal signal;

    // The drain's, GIL.
    Ref drain() noexcept; // null once closed
    /// Of what the drain took and has not delivered, which outlives the drain's call. Null: nothing is left.
    Node *next_item() noexcept;
    bool has_items() noexcept;
    void take_items() noexcept;
    bool scheduled = false; // a call_soon(drain) is on its way
    /// Items, by the last call that had any: what asyncio's log of slow callbacks tells. Relaxed: a figure.
    std::atomic<int> delivered{0};
    bool may_resume = false; // inside a drain that may resume tasks directly
    /// asyncio's debug mode, as it was at the last drain: asking costs a sixth of a Future. Relaxed: a setting.
    std::atomic<bool> debug{false};
    /// GIL. Asks the loop for it. -1 with an error.
    int ask_debug(PyObject *loop);

private:
    Bridge(PyObject *loop, Ref loop_reference);
    ~Bridge();
    int ask_debug_at_first(PyObject *loop);
    int watch(PyObject *loop, PyObject *reader, WakeMode wanted);
    void log(const char *what) noexcept;
    void unlink_locked(Member &member) noexcept;

    std::atomic<std::uint32_t> references_{1};
    std::atomic<std::thread::id> thread_{std::this_thread::get_id()}; // relaxed: compared, by that very thread
    PyObject *const loop_key_;                                        // for comparison only
    std::unique_ptr<Waker> waker_;
    WakeMode mode_ = WakeMode::call_soon;
    bool has_readers_ = true;
    bool says_if_closed_ = true; // the notifier alone
    PythonLock lock_;            // guards all below, which the thread that closes and the loop's may both use
    Ref loop_reference_;         // a weak reference
    Ref drain_;
    Batch batch_;
    Member members_;            // the ring's head
    bool takes_members_ = true; // until it is closed
    int closers_ = 0;           // calls of close() that have not returned
};

inline BridgeRef::~BridgeRef() {
    if (bridge_)
        bridge_->release();
}

/// GIL. Drops the reference where foreign code may run: in a drain, or when the next bridge is made.
void drop_later(Runtime &, Ref object) noexcept;

} // namespace aiobridge::core
