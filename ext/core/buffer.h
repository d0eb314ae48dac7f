// ext/core/buffer.h: the events that wait in a stream, and what happens when there are too many
#pragma once

#include "inbox.h"
#include "ring.h"
#include "short_lock.h"

#include <aiobridge/c_api.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

namespace aiobridge::core {

/// Each event accepted has one fate: accepted = delivered + evicted + merged + undelivered + pending, at any moment at
/// which the lock is free.
struct Counts {
    std::uint64_t accepted = 0, delivered = 0, evicted = 0, merged = 0, undelivered = 0, pending = 0;
    std::uint64_t refused[AIOBRIDGE_ALREADY_SET] = {}; // by fate
    void add(const Counts &) noexcept;
};

/// What follows the last event.
enum class Ending : std::uint8_t { plain, error, overflow, broken, aborted };

/// Filled from any thread, emptied by one consumer. No Python here, and nobody's wake: what a call makes necessary
/// elsewhere it tells its caller, who does it without the lock.
///
/// One short lock, because the contracts need several things to change at once: an event that was pushed is readable
/// when push returns (a lock-free ring shows it only when the producers before it have filled their slots), what waits
/// may be merged or evicted while the consumer takes, and the figures add up. Under the lock run the payload's move and
/// the merge function, which cannot throw, and nothing else of the user's; no thread waits for the GIL with it.
class Buffer {
public:
    Buffer(const aiobridge_stream_options &) noexcept;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer();
    bool valid() const noexcept { return oldest_ && oldest_->valid(); }

    // Any thread. The producers'.

    struct Closed {
        bool done = false;     // by this call
        bool wake = false;     // the consumer has what it waits for: post its wake
        Node *ready = nullptr; // those who waited for room, newest first
    };
    struct Pushed {
        aiobridge_fate fate;
        bool wake = false; // as above
    };
    /// Never waits: the policy `block` answers `full`, not counted, and push_later() is next. `full` of the policy
    /// `error`, which one push answers at most, has closed the buffer to everyone: tell_of_overflow() is next. An
    /// evicted event was moved to `evicted`, for the caller to destroy.
    Pushed push(void *event, void *evicted) noexcept;
    struct PushedSome {
        std::size_t count; // that were accepted; 0: push() is next, and says why
        bool wake;
    };
    /// Of a trivial type: copies some of the first ones, as far as there is room.
    PushedSome push_some(const void *events, std::size_t count) noexcept;
    /// Waits for room. `timed_out`, or `closed` as soon as the stream is.
    Pushed push_later(void *event, std::chrono::steady_clock::time_point deadline) noexcept;
    /// Counts a refusal that was decided elsewhere.
    Pushed refuse(aiobridge_fate) noexcept;

    Closed tell_of_overflow() noexcept;
    Closed close(aiobridge_reason, Ending) noexcept;
    /// As close, with an error of at most `error_room` bytes, which is moved in.
    Closed fail(aiobridge_reason, const aiobridge_type &, void *error) noexcept;
    /// Nothing more is delivered: what waits is undelivered. False: there is none. After close.
    bool abandon() noexcept;
    /// After abandon(): one of those that were not delivered.
    bool take_undelivered(void *to) noexcept;
    /// Relaxed: who sees `open` finds out under the lock.
    aiobridge_reason reason() const noexcept { return reason_.load(std::memory_order_relaxed); }

    /// False from the moment the high watermark is reached until the low one is. Any thread; relaxed: an advice.
    bool ready() const noexcept { return !paused_.load(std::memory_order_relaxed); }
    /// Leaves the node until the buffer is ready or closed. False: it is, and the node is still the caller's.
    bool wait_until_ready(Node *) noexcept;

    // The consumer's.

    struct Taken {
        std::size_t count = 0;
        Node *ready = nullptr; // the low watermark is reached: those who waited for it, newest first
    };
    Taken take(void *to) noexcept { return take_many(to, 1); }
    /// More than one only of a trivial type.
    Taken take_many(void *to, std::size_t limit) noexcept;
    /// The consumer is about to sleep until so many events wait, or the end. False: that is so.
    bool park(std::size_t wanted) noexcept;
    /// The wake was delivered.
    void unpark() noexcept;
    /// Nothing will ever come.
    bool ended() noexcept;
    /// The ending, which is then plain; with `error`, the error's type, moved to `to`.
    Ending take_ending(void *to, const aiobridge_type *&error) noexcept;
    std::size_t size() noexcept;
    Counts counts() noexcept;
    /// Each event that the consumer may still get, and the error, under the lock: `visit` looks, and does nothing else.
    template <class Visit> void for_each(Visit visit) {
        const std::lock_guard lock(lock_);
        for (const Ring *ring = abandoned_ ? nullptr : oldest_; ring; ring = ring->next)
            ring->for_each(visit);
        if (error_type_)
            visit(static_cast<void *>(error_));
    }

    std::size_t capacity() const noexcept { return capacity_; }
    /// The most that can wait before producers are told to stop: to wait for more would be in vain.
    std::size_t high_watermark() const noexcept { return high_; }
    static constexpr std::size_t error_room = 16;

private:
    bool wake_wanted() noexcept;
    bool added(std::size_t count) noexcept;
    Pushed put(void *event, aiobridge_fate) noexcept;
    Pushed refused(aiobridge_fate) noexcept;
    std::optional<Pushed> push_if_room(void *event) noexcept;
    std::optional<Pushed> push_awake(void *event, std::chrono::steady_clock::time_point deadline) noexcept;
    bool grow(std::unique_lock<ShortLock> &) noexcept;
    Closed close_locked(std::unique_lock<ShortLock> &, aiobridge_reason, Ending) noexcept;
    void room_was_made(bool for_all) noexcept;
    Ring *drop_empty_ring() noexcept;

    const aiobridge_type &type_;
    const aiobridge_overflow overflow_;
    const std::size_t capacity_, high_, low_;
    void (*const merge_)(void (*)(void), void *, void *);
    void (*const merge_function_)(void);

    // Held by a producer that waits for room from its look at the buffer on, taken inside this look, and by whoever has
    // made room before it notifies: so no notification comes between the look and the wait. Taken before lock_.
    std::mutex waiting_;
    std::condition_variable room_;

    ShortLock lock_;       // guards all below
    unsigned blocked_ = 0; // producers that wait for room
    Ring *oldest_, *newest_;
    std::size_t size_ = 0;
    std::size_t wanted_ = 0;       // events that the sleeping consumer waits for; 0: it is awake
    bool wake_on_its_way_ = false; // the wake is posted once, and not again before it was delivered
    bool abandoned_ = false;
    Node *ready_waiters_ = nullptr;
    std::atomic<bool> paused_{false}; // written under the lock, read without
    std::atomic<bool> full_{false};   // the same: a producer found no room, and none was made since
    std::atomic<aiobridge_reason> reason_{AIOBRIDGE_OPEN}; // the same; once
    Ending ending_ = Ending::plain;
    const aiobridge_type *error_type_ = nullptr;
    alignas(8) unsigned char error_[error_room];
    Counts counts_;
};

} // namespace aiobridge::core
