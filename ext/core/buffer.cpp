// ext/core/buffer.cpp: the events that wait in a stream
#include "buffer.h"

#include "pause.h"

#include <algorithm>
#include <new>
#include <thread>
#include <utility>

namespace aiobridge::core {
namespace {

// An unbounded buffer grows by rings, each twice as large as the last one, up to so many bytes.
constexpr std::size_t largest_growth = std::size_t{1} << 20;

// Bytes that are copied into the buffer at a time: others wait for the lock meanwhile.
constexpr std::size_t longest_copy = std::size_t{1} << 15;

// Of a producer that finds no room, before it sleeps: a consumer that goes on makes room by then, and would pay for
// waking it with more than an event costs.
constexpr std::chrono::microseconds longest_linger{20};

} // namespace

void Counts::add(const Counts &other) noexcept {
    accepted += other.accepted;
    delivered += other.delivered;
    evicted += other.evicted;
    merged += other.merged;
    undelivered += other.undelivered;
    pending += other.pending;
    for (std::size_t fate = 0; fate < std::size(refused); ++fate)
        refused[fate] += other.refused[fate];
}

Buffer::Buffer(const aiobridge_stream_options &options) noexcept
    : type_(*options.type), overflow_(options.overflow),
      capacity_(options.overflow == AIOBRIDGE_UNBOUNDED ? SIZE_MAX : options.capacity),
      high_(options.high_watermark ? options.high_watermark : capacity_),
      low_(options.low_watermark ? options.low_watermark : high_ / 2), merge_(options.merge),
      merge_function_(options.merge_function), oldest_(new (std::nothrow) Ring(options.capacity, type_)),
      newest_(oldest_) {}

Buffer::~Buffer() {
    while (oldest_) {
        Ring *ring = oldest_;
        oldest_ = ring->next;
        delete ring;
    }
    if (error_type_)
        destroy_payload(*error_type_, error_);
}

// The consumer sleeps, and has what it waits for.
bool Buffer::wake_wanted() noexcept {
    if (!wanted_ || wake_on_its_way_ || (size_ < wanted_ && reason() == AIOBRIDGE_OPEN))
        return false;
    wanted_ = 0;
    wake_on_its_way_ = true;
    return true;
}

// True if the consumer is to be woken.
bool Buffer::added(std::size_t count) noexcept {
    size_ += count;
    counts_.accepted += count;
    if (size_ >= high_)
        paused_.store(true, std::memory_order_relaxed);
    return wake_wanted();
}

Buffer::Pushed Buffer::put(void *event, aiobridge_fate fate) noexcept {
    newest_->put(event);
    return {fate, added(1)};
}

Buffer::Pushed Buffer::refused(aiobridge_fate fate) noexcept {
    ++counts_.refused[fate];
    return {fate};
}

Buffer::Pushed Buffer::refuse(aiobridge_fate fate) noexcept {
    const std::lock_guard lock(lock_);
    return refused(fate);
}

// Without the lock while memory is found. False: there is none.
bool Buffer::grow(std::unique_lock<ShortLock> &lock) noexcept {
    const std::size_t capacity =
        std::max(newest_->capacity(), std::min(2 * newest_->capacity(), largest_growth / type_.size));
    lock.unlock();
    AIOBRIDGE_PAUSE("buffer.grow");
    Ring *ring = new (std::nothrow) Ring(capacity, type_);
    AIOBRIDGE_PAUSE("buffer.grown");
    const bool made = ring && ring->valid();
    lock.lock();
    if (made && newest_->full()) {
        newest_->next = ring;
        newest_ = ring;
        return true;
    }
    // Another producer was faster, or the consumer has made room.
    const bool room = !newest_->full();
    lock.unlock();
    delete ring;
    lock.lock();
    return room;
}

Buffer::Pushed Buffer::push(void *event, void *evicted) noexcept {
    AIOBRIDGE_PAUSE("buffer.push");
    std::unique_lock lock(lock_);
    if (overflow_ == AIOBRIDGE_UNBOUNDED)
        while (reason() == AIOBRIDGE_OPEN && newest_->full())
            if (!grow(lock))
                return refused(reason() == AIOBRIDGE_OPEN ? AIOBRIDGE_NO_MEMORY : AIOBRIDGE_CLOSED);
    if (reason() != AIOBRIDGE_OPEN)
        return refused(AIOBRIDGE_CLOSED);
    if (size_ < capacity_)
        return put(event, AIOBRIDGE_ACCEPTED);
    switch (overflow_) {
    case AIOBRIDGE_DROP_OLDEST:
        oldest_->take(evicted);
        --size_;
        ++counts_.evicted;
        return put(event, AIOBRIDGE_EVICTED_OLDEST);
    case AIOBRIDGE_DROP_NEWEST: return refused(AIOBRIDGE_DROPPED);
    case AIOBRIDGE_BLOCK: return {AIOBRIDGE_FULL};
    case AIOBRIDGE_CONFLATE:
        merge_(merge_function_, newest_->newest(), event);
        ++counts_.accepted;
        ++counts_.merged;
        lock.unlock();
        AIOBRIDGE_PAUSE("buffer.merged");
        destroy_payload(type_, event);
        return {AIOBRIDGE_MERGED};
    case AIOBRIDGE_ERROR: // here, or others could push, or end the stream plainly, behind the event that is missing
        reason_.store(AIOBRIDGE_FAILED, std::memory_order_relaxed);
        ending_ = Ending::overflow;
        return refused(AIOBRIDGE_FULL);
    default: return refused(AIOBRIDGE_FULL);
    }
}

Buffer::PushedSome Buffer::push_some(const void *events, std::size_t count) noexcept {
    AIOBRIDGE_PAUSE("buffer.push_some");
    count = std::min(count, std::max<std::size_t>(longest_copy / type_.size, 1));
    const std::lock_guard lock(lock_);
    if (reason() != AIOBRIDGE_OPEN)
        return {0, false};
    count = newest_->put_many(events, std::min(count, capacity_ - size_));
    return {count, count && added(count)};
}

Buffer::Pushed Buffer::push_later(void *event, std::chrono::steady_clock::time_point deadline) noexcept {
    for (;;) {
        AIOBRIDGE_PAUSE("buffer.block");
        if (const auto pushed = push_awake(event, deadline))
            return *pushed;
        AIOBRIDGE_PAUSE("buffer.wait");
        std::unique_lock waiting(waiting_);
        {
            const std::lock_guard lock(lock_);
            if (const auto pushed = push_if_room(event))
                return *pushed;
            ++blocked_;
        }
        const bool in_time = room_.wait_until(waiting, deadline) == std::cv_status::no_timeout;
        const std::lock_guard lock(lock_);
        --blocked_;
        if (!in_time) {
            const auto pushed = push_if_room(event);
            return pushed ? *pushed : refused(AIOBRIDGE_TIMED_OUT);
        }
    }
}

// None: there was no room for a while. Also after sleeping: who was woken comes later to the room than those who are
// awake, and would sleep for ever beside them.
std::optional<Buffer::Pushed> Buffer::push_awake(void *event, std::chrono::steady_clock::time_point deadline) noexcept {
    const auto end = std::min(deadline, std::chrono::steady_clock::now() + longest_linger);
    while (std::chrono::steady_clock::now() < end) {
        if (!full_.load(std::memory_order_relaxed)) {
            const std::lock_guard lock(lock_);
            if (const auto pushed = push_if_room(event))
                return pushed;
            full_.store(true, std::memory_order_relaxed);
        }
        std::this_thread::yield();
    }
    return std::nullopt;
}

// None: there is no room. Under the lock.
std::optional<Buffer::Pushed> Buffer::push_if_room(void *event) noexcept {
    if (reason() != AIOBRIDGE_OPEN)
        return refused(AIOBRIDGE_CLOSED);
    if (size_ == capacity_)
        return std::nullopt;
    return put(event, AIOBRIDGE_ACCEPTED);
}

// Without lock_.
void Buffer::room_was_made(bool for_all) noexcept {
    {
        const std::lock_guard waiting(waiting_);
    }
    for_all ? room_.notify_all() : room_.notify_one();
}

// Unlocks.
Buffer::Closed Buffer::close_locked(std::unique_lock<ShortLock> &lock, aiobridge_reason reason,
                                    Ending ending) noexcept {
    reason_.store(reason, std::memory_order_relaxed);
    ending_ = ending;
    full_.store(false, std::memory_order_relaxed);
    const Closed closed{true, wake_wanted(), std::exchange(ready_waiters_, nullptr)};
    const bool blocked = blocked_ != 0;
    lock.unlock();
    AIOBRIDGE_PAUSE("buffer.closed");
    if (blocked)
        room_was_made(true);
    return closed;
}

// Not part of push, whose result is to fit into registers.
Buffer::Closed Buffer::tell_of_overflow() noexcept {
    AIOBRIDGE_PAUSE("buffer.overflow");
    const std::lock_guard lock(lock_);
    return {true, wake_wanted(), std::exchange(ready_waiters_, nullptr)};
}

Buffer::Closed Buffer::close(aiobridge_reason reason, Ending ending) noexcept {
    AIOBRIDGE_PAUSE("buffer.close");
    std::unique_lock lock(lock_);
    if (this->reason() != AIOBRIDGE_OPEN)
        return {};
    return close_locked(lock, reason, ending);
}

Buffer::Closed Buffer::fail(aiobridge_reason reason, const aiobridge_type &type, void *error) noexcept {
    AIOBRIDGE_PAUSE("buffer.fail");
    std::unique_lock lock(lock_);
    if (this->reason() != AIOBRIDGE_OPEN)
        return {};
    move_payload(type, error_, error);
    error_type_ = &type;
    return close_locked(lock, reason, Ending::error);
}

bool Buffer::wait_until_ready(Node *node) noexcept {
    AIOBRIDGE_PAUSE("buffer.ask");
    const std::lock_guard lock(lock_);
    if (ready() || reason() != AIOBRIDGE_OPEN)
        return false;
    node->next = ready_waiters_;
    ready_waiters_ = node;
    return true;
}

bool Buffer::abandon() noexcept {
    AIOBRIDGE_PAUSE("buffer.abandon");
    const std::lock_guard lock(lock_);
    if (abandoned_)
        return false;
    abandoned_ = true;
    counts_.undelivered += size_;
    return size_ > 0;
}

// An unbounded buffer's oldest ring, when it was used up: for the caller to delete without the lock.
Ring *Buffer::drop_empty_ring() noexcept {
    if (oldest_->size() || !oldest_->next)
        return nullptr;
    Ring *empty = oldest_;
    oldest_ = empty->next;
    return empty;
}

bool Buffer::take_undelivered(void *to) noexcept {
    AIOBRIDGE_PAUSE("buffer.undelivered");
    std::unique_lock lock(lock_);
    if (!size_)
        return false;
    oldest_->take(to);
    --size_;
    Ring *empty = drop_empty_ring();
    lock.unlock();
    delete empty;
    return true;
}

Buffer::Taken Buffer::take_many(void *to, std::size_t limit) noexcept {
    AIOBRIDGE_PAUSE("buffer.take");
    std::unique_lock lock(lock_);
    if (!size_ || abandoned_)
        return {};
    std::size_t count = 1;
    if (limit == 1)
        oldest_->take(to);
    else
        count = oldest_->take_many(to, limit);
    size_ -= count;
    counts_.delivered += count;
    if (full_.load(std::memory_order_relaxed))
        full_.store(false, std::memory_order_relaxed);
    Node *ready = nullptr;
    if (size_ <= low_ && paused_.load(std::memory_order_relaxed)) {
        paused_.store(false, std::memory_order_relaxed);
        ready = std::exchange(ready_waiters_, nullptr);
    }
    const bool blocked = blocked_ != 0;
    Ring *empty = drop_empty_ring();
    lock.unlock();
    AIOBRIDGE_PAUSE("buffer.taken");
    if (blocked)
        room_was_made(count > 1);
    delete empty;
    return {count, ready};
}

bool Buffer::park(std::size_t wanted) noexcept {
    AIOBRIDGE_PAUSE("buffer.park");
    const std::lock_guard lock(lock_);
    const bool sleeps = !abandoned_ && size_ < wanted && reason() == AIOBRIDGE_OPEN;
    wanted_ = sleeps ? wanted : 0;
    return sleeps;
}

void Buffer::unpark() noexcept {
    AIOBRIDGE_PAUSE("buffer.unpark");
    const std::lock_guard lock(lock_);
    wanted_ = 0;
    wake_on_its_way_ = false;
}

bool Buffer::ended() noexcept {
    const std::lock_guard lock(lock_);
    return reason() != AIOBRIDGE_OPEN && (!size_ || abandoned_);
}

Ending Buffer::take_ending(void *to, const aiobridge_type *&error) noexcept {
    const std::lock_guard lock(lock_);
    const Ending ending = ending_;
    ending_ = Ending::plain;
    error = error_type_;
    error_type_ = nullptr;
    if (error)
        move_payload(*error, to, error_);
    return ending;
}

std::size_t Buffer::size() noexcept {
    const std::lock_guard lock(lock_);
    return abandoned_ ? 0 : size_;
}

Counts Buffer::counts() noexcept {
    const std::lock_guard lock(lock_);
    Counts counts = counts_;
    counts.pending = abandoned_ ? 0 : size_;
    return counts;
}

} // namespace aiobridge::core
