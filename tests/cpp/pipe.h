// tests/cpp/pipe.h: what a stream's channel does with its buffer, and books of what became of the events
#pragma once

#include "check.h"
#include "events.h"
#include "threads.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <type_traits>
#include <vector>

inline std::uint64_t sum(const Counts &counts) {
    return counts.delivered + counts.evicted + counts.merged + counts.undelivered + counts.pending;
}

/// What producers were told.
class Fates {
public:
    void add(aiobridge_fate fate) { fates_[fate].fetch_add(1, std::memory_order_relaxed); }
    std::uint64_t operator[](aiobridge_fate fate) const { return fates_[fate].load(std::memory_order_relaxed); }
    /// Of a buffer that nobody uses any more.
    void compare(const Counts &counts) const {
        CHECK(counts.accepted == sum(counts));
        CHECK(counts.accepted == (*this)[AIOBRIDGE_ACCEPTED] + counts.evicted + counts.merged);
        CHECK(counts.evicted == (*this)[AIOBRIDGE_EVICTED_OLDEST] && counts.merged == (*this)[AIOBRIDGE_MERGED]);
        for (aiobridge_fate fate = AIOBRIDGE_DROPPED; fate < std::size(counts.refused); ++fate)
            CHECK(counts.refused[fate] == (*this)[fate]);
    }

private:
    std::array<std::atomic<std::uint64_t>, AIOBRIDGE_ALREADY_SET> fates_{};
};

/// Who has which event: each one once. A race, if two threads have the same event.
class Ledger {
public:
    Ledger(int producers, int count)
        : count_(count), fates_(static_cast<std::size_t>(producers) * static_cast<std::size_t>(count)) {}
    void enter(const Event &event) { CHECK(++fates_[index(event)] == 1); }
    bool complete() const { return std::count(fates_.begin(), fates_.end(), 1) == std::ssize(fates_); }

private:
    std::size_t index(const Event &event) const {
        return static_cast<std::size_t>(event.producer) * static_cast<std::size_t>(count_) +
               static_cast<std::size_t>(event.number);
    }
    int count_;
    std::vector<unsigned char> fates_;
};

/// The consumer's view: each producer's events come in order.
class Order {
public:
    void enter(const Event &event, bool gapless) {
        int &last = last_[static_cast<std::size_t>(event.producer)];
        CHECK(gapless ? event.number == last + 1 : event.number > last);
        last = event.number;
    }

private:
    std::array<int, 4> last_{-1, -1, -1, -1};
};

/// One who waits until a buffer is ready, or closed.
struct Waiter : Node {
    std::atomic<bool> given_back{false};
};
inline void give_back(Node *newest) {
    for (aiobridge::core::Batch batch(newest); Node *node = batch.pop();) {
        auto &given_back = static_cast<Waiter *>(node)->given_back;
        CHECK(!given_back.exchange(true));
        given_back.notify_one();
    }
}

inline std::chrono::steady_clock::time_point never() {
    return std::chrono::steady_clock::now() + std::chrono::hours(1000);
}

/// What a Channel does with its buffer, with a descriptor in place of the loop's inbox.
template <class T> class Pipe {
public:
    explicit Pipe(const aiobridge_stream_options &options) : buffer(options), overflow(options.overflow) {}

    /// Any thread. Waits for ever unless told otherwise.
    template <class OnEvicted>
    aiobridge_fate push(int producer, int number, OnEvicted on_evicted,
                        std::chrono::steady_clock::time_point deadline = never()) {
        Buffer::Pushed pushed = ::push<T>(buffer, T(producer, number), on_evicted);
        if (pushed.fate == AIOBRIDGE_FULL && overflow == AIOBRIDGE_BLOCK)
            pushed = ::push_later<T>(buffer, T(producer, number), deadline);
        if (pushed.wake)
            wake();
        if (pushed.fate == AIOBRIDGE_FULL && overflow == AIOBRIDGE_ERROR)
            finish(buffer.tell_of_overflow());
        fates.add(pushed.fate);
        return pushed.fate;
    }
    bool close() { return finish(buffer.close(AIOBRIDGE_FINISHED, aiobridge::core::Ending::plain)); }
    bool finish(const Buffer::Closed &closed) {
        if (closed.wake)
            wake();
        give_back(closed.ready);
        return closed.done;
    }

    /// The consumer. Sleeps until so many wait, or the end.
    void sleep(std::size_t wanted) {
        while (buffer.park(wanted)) {
            wait_for(signal_);
            signal_.clear();
            wake_on_its_way_ = false;
            buffer.unpark();
            CHECK(buffer.size() >= wanted || buffer.reason() != AIOBRIDGE_OPEN); // not woken for nothing
        }
    }
    /// At most 3.
    template <class OnEvent> std::size_t take(OnEvent on_event) {
        Arrival<T> arrivals[3];
        const Buffer::Taken taken =
            std::is_same_v<T, Event> ? buffer.take_many(arrivals, 3) : buffer.take(arrivals[0].get());
        give_back(taken.ready);
        for (std::size_t index = 0; index < taken.count; ++index) {
            T event = arrivals[index].take();
            on_event(event_of(event));
        }
        return taken.count;
    }

    Buffer buffer;
    const aiobridge_overflow overflow;
    Fates fates;

private:
    void wake() {
        CHECK(!wake_on_its_way_.exchange(true));
        signal_.set();
    }
    aiobridge::core::Signal signal_;
    std::atomic<bool> wake_on_its_way_{false};
};
