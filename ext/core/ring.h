// ext/core/ring.h: a bounded buffer of events: many threads put, and take or evict, without a lock
#pragma once

#include <aiobridge/c_api.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace aiobridge::core {

/// Slots in a circle, each with a word that says whose turn it is (after Dmitry Vyukov's bounded queue). Positions
/// count up for ever; position p uses slot p mod n, for the (p div n)-th time, which is its turn t:
///   word = 2t      empty, for the one who claims position p by moving `tail_` on
///   word = 2t + 1  full, for the one who claims position p by moving `head_` on
/// Between a claim and the new word the claimant alone touches the payload, and does nothing but move it: so nobody
/// waits for foreign code, and no event is seen half written.
///
/// The end is a bit in `tail_`: a put either comes before it and will be taken, or fails. Zeroed memory is a valid
/// empty ring, hence calloc: a large capacity costs memory only as far as it is used.
class Ring {
public:
    enum class Put { done, full, closed, busy };

    /// `memory()` is null if there was none.
    Ring(std::size_t capacity, const aiobridge_type &type) noexcept
        : capacity_(capacity), shift_(static_cast<unsigned>(std::bit_width(std::bit_ceil(capacity)) - 1)),
          mask_(std::bit_ceil(capacity) - 1), type_(type), offset_(round_up(sizeof(Turn), type.align)),
          stride_(round_up(offset_ + type.size, type.align > alignof(Turn) ? type.align : alignof(Turn))) {
        const std::size_t padding = type.align > alignof(std::max_align_t) ? type.align : 0;
        memory_ = std::calloc(1, (mask_ + 1) * stride_ + padding);
        slots_ = static_cast<unsigned char *>(memory_);
        if (memory_ && padding)
            slots_ += round_up(reinterpret_cast<std::uintptr_t>(memory_), type.align) -
                      reinterpret_cast<std::uintptr_t>(memory_);
    }
    Ring(const Ring &) = delete;
    Ring &operator=(const Ring &) = delete;
    /// Nobody uses the ring any more.
    ~Ring() {
        if (memory_)
            discard();
        std::free(memory_);
    }
    const void *memory() const noexcept { return memory_; }

    /// Any thread. `busy`: the slot is free in a moment, its last event is on its way out.
    Put put(void *event) noexcept {
        std::uint64_t position = tail_.load(std::memory_order_relaxed);
        for (;;) {
            if (position & closed_bit)
                return Put::closed;
            Turn &turn = turn_of(position);
            const std::uint64_t empty = 2 * (position >> shift_), word = turn.load(std::memory_order_acquire);
            const bool room = position - head_.load(std::memory_order_acquire) < capacity_;
            if (room && word == empty) {
                // Acq_rel: the claim itself publishes nothing, but must not be seen after the end.
                if (tail_.compare_exchange_weak(position, position + 1, std::memory_order_acq_rel,
                                                std::memory_order_relaxed)) {
                    move(payload_of(position), event);
                    // Seq_cst, not release: whoever puts looks afterwards whether the consumer is parked, and the
                    // consumer parks and looks afterwards for events. One of the two must see the other.
                    turn.store(empty + 1, std::memory_order_seq_cst);
                    return Put::done;
                }
                continue;
            }
            // Full, or others were faster and our position is old.
            const std::uint64_t now = tail_.load(std::memory_order_relaxed);
            if (now == position)
                return room ? Put::busy : Put::full;
            position = now;
        }
    }

    /// Any thread; the consumer, or a producer that evicts. Moves the oldest event to `to`. False: there is none, or
    /// the oldest is still being written.
    bool take(void *to) noexcept {
        std::uint64_t position = head_.load(std::memory_order_relaxed);
        for (;;) {
            Turn &turn = turn_of(position);
            const std::uint64_t full = 2 * (position >> shift_) + 1, word = turn.load(std::memory_order_seq_cst);
            if (word == full) {
                // Seq_cst for readable(): a consumer that parks must see the head of whoever evicts before it puts.
                if (head_.compare_exchange_weak(position, position + 1, std::memory_order_seq_cst,
                                                std::memory_order_relaxed)) {
                    move(to, payload_of(position));
                    turn.store(full + 1, std::memory_order_release);
                    return true;
                }
                continue;
            }
            const std::uint64_t now = head_.load(std::memory_order_relaxed);
            if (now == position)
                return false;
            position = now;
        }
    }

    /// The consumer. True if take() would find something, as far as other threads let it.
    bool readable() const noexcept {
        std::uint64_t position = head_.load(std::memory_order_seq_cst);
        for (;;) {
            if (turn_of(position).load(std::memory_order_seq_cst) == 2 * (position >> shift_) + 1)
                return true;
            // Empty, or evicted since we read the position: then the next one may be full.
            const std::uint64_t now = head_.load(std::memory_order_seq_cst);
            if (now == position)
                return false;
            position = now;
        }
    }

    /// Any thread. Takes nothing more. Seq_cst, as in put: an end wakes the consumer too.
    void close() noexcept { tail_.fetch_or(closed_bit, std::memory_order_seq_cst); }

    /// True when the ring is closed and everything that was put has been taken.
    bool ended() const noexcept {
        const std::uint64_t tail = tail_.load(std::memory_order_seq_cst);
        return (tail & closed_bit) && head_.load(std::memory_order_acquire) == (tail & ~closed_bit);
    }
    /// Events that wait, as seen by a thread that neither puts nor takes meanwhile; else an estimate.
    std::size_t size() const noexcept {
        // The head first: it never overtakes the tail, so the difference is never negative.
        const std::uint64_t head = head_.load(std::memory_order_acquire);
        const std::uint64_t size = (tail_.load(std::memory_order_acquire) & ~closed_bit) - head;
        return static_cast<std::size_t>(size < capacity_ ? size : capacity_);
    }
    /// Events put so far, and events taken or evicted so far. Exact while nobody puts.
    std::uint64_t put_count() const noexcept { return tail_.load(std::memory_order_acquire) & ~closed_bit; }
    std::uint64_t taken_count() const noexcept { return head_.load(std::memory_order_acquire); }

    /// Any thread, after close(). Destroys what is buffered, where it lies; returns how many. (In an open ring a
    /// destructor that puts could wait for its own slot.)
    std::size_t discard() noexcept {
        std::size_t count = 0;
        std::uint64_t position = head_.load(std::memory_order_relaxed);
        for (;;) {
            Turn &turn = turn_of(position);
            const std::uint64_t full = 2 * (position >> shift_) + 1;
            if (turn.load(std::memory_order_acquire) == full) {
                if (!head_.compare_exchange_weak(position, position + 1, std::memory_order_acq_rel,
                                                 std::memory_order_relaxed))
                    continue;
                if (!(type_.flags & AIOBRIDGE_TYPE_TRIVIAL))
                    type_.destroy(payload_of(position));
                turn.store(full + 1, std::memory_order_release);
                ++count, ++position;
                continue;
            }
            const std::uint64_t now = head_.load(std::memory_order_relaxed);
            if (now == position)
                return count;
            position = now;
        }
    }

private:
    using Turn = std::atomic<std::uint64_t>;
    static constexpr std::uint64_t closed_bit = std::uint64_t{1} << 63;

    static std::size_t round_up(std::size_t size, std::size_t alignment) noexcept {
        return (size + alignment - 1) / alignment * alignment;
    }
    unsigned char *slot(std::uint64_t position) const noexcept {
        return slots_ + static_cast<std::size_t>(position & mask_) * stride_;
    }
    Turn &turn_of(std::uint64_t position) const noexcept {
        return *reinterpret_cast<Turn *>(slot(position & ~closed_bit));
    }
    void *payload_of(std::uint64_t position) const noexcept { return slot(position) + offset_; }
    void move(void *to, void *from) const noexcept {
        if (type_.flags & AIOBRIDGE_TYPE_TRIVIAL)
            std::memcpy(to, from, type_.size);
        else
            type_.move(to, from);
    }

    const std::size_t capacity_;
    const unsigned shift_;
    const std::uint64_t mask_;
    const aiobridge_type &type_;
    const std::size_t offset_, stride_;
    void *memory_ = nullptr;
    unsigned char *slots_ = nullptr;
    // Apart, so that producers and the consumer do not fight over one cache line.
    alignas(64) std::atomic<std::uint64_t> tail_{0};
    alignas(64) std::atomic<std::uint64_t> head_{0};
};

} // namespace aiobridge::core
