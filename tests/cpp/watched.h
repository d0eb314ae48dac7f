// tests/cpp/watched.h: a buffer, and beside it what it must be
#pragma once

#include "check.h"
#include "events.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <iterator>
#include <vector>

struct Waiter : Node {};

/// A buffer, and beside it in the plainest way what is in it, in its figures and at its watermarks. Each call compares.
template <class T> class Watched {
public:
    Watched(aiobridge_overflow overflow, std::size_t capacity, std::size_t high = 0, std::size_t low = 0)
        : buffer(options_for<T>(overflow, capacity, high, low)), overflow_(overflow),
          capacity_(overflow == AIOBRIDGE_UNBOUNDED ? SIZE_MAX : capacity), high_(high ? high : capacity_),
          low_(low ? low : high_ / 2) {
        CHECK(buffer.valid() && buffer.capacity() == capacity_ && buffer.high_watermark() == high_);
        compare();
    }

    bool push(int number, aiobridge_fate expected) {
        bool evicted = false;
        const auto pushed = ::push<T>(buffer, T(0, number), [&](T event) {
            CHECK(event_of(event).number == waiting_.front().number);
            evicted = true;
        });
        CHECK(pushed.fate == expected);
        CHECK(evicted == (expected == AIOBRIDGE_EVICTED_OLDEST));
        if (evicted) {
            waiting_.pop_front();
            ++expected_.evicted;
        }
        if (expected == AIOBRIDGE_MERGED) {
            ++expected_.accepted;
            ++expected_.merged;
            ++waiting_.back().weight;
        }
        return overflow_ == AIOBRIDGE_ERROR && expected == AIOBRIDGE_FULL ? overflowed(pushed)
                                                                          : book(pushed, expected, number);
    }
    bool push(int number) { return push(number, next_fate()); }
    bool push_later(int number, aiobridge_fate expected) {
        return book(::push_later<T>(buffer, T(0, number), std::chrono::steady_clock::now()), expected, number);
    }
    bool push_later(int number) {
        aiobridge_fate fate = next_fate();
        if (fate == AIOBRIDGE_FULL)
            fate = AIOBRIDGE_TIMED_OUT;
        return push_later(number, fate);
    }
    bool close(aiobridge_reason reason, aiobridge::core::Ending ending = aiobridge::core::Ending::plain) {
        return closed(buffer.close(reason, ending), reason);
    }
    bool fail(int number) {
        outgoing<Tracked> error(Tracked(1, number));
        const bool fails = reason_ == AIOBRIDGE_OPEN;
        const auto failed = buffer.fail(AIOBRIDGE_FAILED, payload<Tracked>::type, error.get());
        if (fails)
            error.taken();
        return closed(failed, AIOBRIDGE_FAILED);
    }
    void abandon() {
        CHECK(buffer.abandon() == (!abandoned_ && !waiting_.empty()));
        if (!abandoned_)
            expected_.undelivered = waiting_.size();
        abandoned_ = true;
        compare();
    }
    void take_undelivered() {
        auto event = ::take_undelivered<T>(buffer);
        CHECK(event.has_value() == !waiting_.empty());
        if (event)
            arrived(*event);
        event.reset();
        compare();
    }
    int take(std::size_t limit = 1) {
        Arrival<T> arrivals[8];
        const Buffer::Taken taken = limit == 1 ? buffer.take(arrivals) : buffer.take_many(arrivals, limit);
        if (taken.count > 0)
            CHECK(taken.count <= limit);
        else
            CHECK(waiting_.empty() || abandoned_);
        for (std::size_t index = 0; index < taken.count; ++index) {
            T event = arrivals[index].take();
            arrived(event);
        }
        expected_.delivered += taken.count;
        const bool resumes = taken.count && paused_ && waiting_.size() <= low_;
        paused_ = paused_ && !resumes;
        given_back(taken.ready, resumes);
        compare();
        return static_cast<int>(taken.count);
    }
    bool park(std::size_t wanted) {
        const bool sleeps = !abandoned_ && waiting_.size() < wanted && reason_ == AIOBRIDGE_OPEN;
        CHECK(buffer.park(wanted) == sleeps);
        wanted_ = sleeps ? wanted : 0;
        return sleeps;
    }
    void unpark() {
        buffer.unpark();
        wanted_ = 0;
        wake_on_its_way_ = false;
    }
    bool wait_until_ready(Waiter &waiter) {
        const bool waits = paused_ && reason_ == AIOBRIDGE_OPEN;
        CHECK(buffer.wait_until_ready(&waiter) == waits);
        if (waits)
            waiters_.push_back(&waiter);
        return waits;
    }
    int size() const { return static_cast<int>(waiting_.size()); }
    bool ready() const { return !paused_; }
    aiobridge_reason reason() const { return reason_; }

    Buffer buffer;

private:
    aiobridge_fate next_fate() const {
        if (reason_ != AIOBRIDGE_OPEN)
            return AIOBRIDGE_CLOSED;
        if (waiting_.size() < capacity_)
            return AIOBRIDGE_ACCEPTED;
        switch (overflow_) {
        case AIOBRIDGE_DROP_OLDEST: return AIOBRIDGE_EVICTED_OLDEST;
        case AIOBRIDGE_DROP_NEWEST: return AIOBRIDGE_DROPPED;
        case AIOBRIDGE_CONFLATE: return AIOBRIDGE_MERGED;
        default: return AIOBRIDGE_FULL;
        }
    }
    // True if the consumer was woken.
    bool book(const Buffer::Pushed &pushed, aiobridge_fate fate, int number) {
        if (fate == AIOBRIDGE_ACCEPTED || fate == AIOBRIDGE_EVICTED_OLDEST) {
            ++expected_.accepted;
            waiting_.push_back({0, number});
            paused_ = paused_ || waiting_.size() >= high_;
        } else if (fate != AIOBRIDGE_MERGED && (fate != AIOBRIDGE_FULL || overflow_ != AIOBRIDGE_BLOCK)) {
            ++expected_.refused[fate];
        }
        CHECK(pushed.wake == wakes());
        compare();
        return pushed.wake;
    }
    // It has ended before anyone is told, and nobody ends it in another way.
    bool overflowed(const Buffer::Pushed &pushed) {
        ++expected_.refused[AIOBRIDGE_FULL];
        CHECK(!pushed.wake && buffer.reason() == AIOBRIDGE_FAILED);
        CHECK(::push<T>(buffer, T(0, 0), [](const T &) {}).fate == AIOBRIDGE_CLOSED);
        ++expected_.refused[AIOBRIDGE_CLOSED];
        CHECK(!buffer.close(AIOBRIDGE_FINISHED, aiobridge::core::Ending::plain).done);
        return closed(buffer.tell_of_overflow(), AIOBRIDGE_FAILED);
    }
    bool closed(const Buffer::Closed &closed, aiobridge_reason reason) {
        const bool first = reason_ == AIOBRIDGE_OPEN;
        CHECK(closed.done == first);
        if (first)
            reason_ = reason;
        CHECK(closed.wake == (first && wakes()));
        given_back(closed.ready, first);
        compare();
        return closed.wake;
    }
    bool wakes() {
        if (!wanted_ || wake_on_its_way_ || (waiting_.size() < wanted_ && reason_ == AIOBRIDGE_OPEN))
            return false;
        wanted_ = 0;
        return wake_on_its_way_ = true;
    }
    void arrived(T &event) {
        CHECK(!waiting_.empty() && event_of(event).number == waiting_.front().number);
        CHECK(event_of(event).weight == waiting_.front().weight);
        waiting_.pop_front();
    }
    // All who wait or nobody, newest first.
    void given_back(Node *newest, bool all) {
        for (; all && !waiters_.empty(); waiters_.pop_back(), newest = newest->next)
            CHECK(newest == waiters_.back());
        CHECK(!newest);
    }
    void compare() {
        const Counts counts = buffer.counts();
        const std::size_t pending = abandoned_ ? 0 : waiting_.size();
        CHECK(counts.accepted == expected_.accepted && counts.delivered == expected_.delivered);
        CHECK(counts.evicted == expected_.evicted && counts.merged == expected_.merged);
        CHECK(counts.undelivered == expected_.undelivered && counts.pending == pending && buffer.size() == pending);
        CHECK(std::equal(std::begin(counts.refused), std::end(counts.refused), std::begin(expected_.refused)));
        CHECK(counts.accepted ==
              counts.delivered + counts.evicted + counts.merged + counts.undelivered + counts.pending);
        CHECK(buffer.ready() == !paused_ && buffer.reason() == reason_);
        CHECK(buffer.ended() == (reason_ != AIOBRIDGE_OPEN && !pending));
    }

    const aiobridge_overflow overflow_;
    const std::size_t capacity_, high_, low_;
    std::deque<Event> waiting_;
    std::vector<Waiter *> waiters_;
    Counts expected_;
    std::size_t wanted_ = 0;
    bool wake_on_its_way_ = false, paused_ = false, abandoned_ = false;
    aiobridge_reason reason_ = AIOBRIDGE_OPEN;
};
