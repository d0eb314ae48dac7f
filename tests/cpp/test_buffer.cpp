// tests/cpp/test_buffer.cpp: each policy's contract, wakes, watermarks, endings, and the figures after every step
#include "buffer.h"

#include "check.h"
#include "events.h"
#include "watched.h"

#include <iterator>
#include <random>
#include <type_traits>

using namespace aiobridge::core;

namespace {

constexpr aiobridge_overflow policies[] = {AIOBRIDGE_REFUSE,   AIOBRIDGE_DROP_OLDEST, AIOBRIDGE_DROP_NEWEST,
                                           AIOBRIDGE_BLOCK,    AIOBRIDGE_CONFLATE,    AIOBRIDGE_ERROR,
                                           AIOBRIDGE_UNBOUNDED};

TEST(a_full_buffer_refuses_evicts_or_merges) {
    struct {
        aiobridge_overflow overflow;
        aiobridge_fate fate;
    } constexpr fates[] = {{AIOBRIDGE_REFUSE, AIOBRIDGE_FULL},
                           {AIOBRIDGE_DROP_OLDEST, AIOBRIDGE_EVICTED_OLDEST},
                           {AIOBRIDGE_DROP_NEWEST, AIOBRIDGE_DROPPED},
                           {AIOBRIDGE_BLOCK, AIOBRIDGE_FULL},
                           {AIOBRIDGE_CONFLATE, AIOBRIDGE_MERGED}};
    for (const auto [overflow, fate] : fates)
        for (const int capacity : {1, 2, 3}) {
            {
                Watched<Tracked> watched(overflow, static_cast<std::size_t>(capacity));
                for (int lap = 0; lap < 5; ++lap) {
                    for (int number = watched.size(); number < capacity; ++number)
                        watched.push(number, AIOBRIDGE_ACCEPTED);
                    for (int number = 0; number < lap; ++number)
                        watched.push(100 + number, fate);
                    CHECK(watched.size() == capacity && Tracked::live == capacity);
                    for (int taken = 0; taken < 1 + lap % capacity; ++taken)
                        CHECK(watched.take() == 1);
                    CHECK(Tracked::live == watched.size());
                }
            }
            CHECK(Tracked::live == 0);
        }
}

TEST(a_full_buffer_ends_with_an_error) {
    Watched<Tracked> watched(AIOBRIDGE_ERROR, 2);
    watched.push(0, AIOBRIDGE_ACCEPTED), watched.push(1, AIOBRIDGE_ACCEPTED);
    CHECK(watched.take() == 1);
    watched.push(2, AIOBRIDGE_ACCEPTED);
    watched.push(3, AIOBRIDGE_FULL);
    CHECK(watched.reason() == AIOBRIDGE_FAILED && Tracked::live == 2);
    CHECK(watched.take() == 1); // there is room again, but it has ended
    watched.push(4, AIOBRIDGE_CLOSED);
    CHECK(watched.take() == 1 && watched.take() == 0);
    const aiobridge_type *error = nullptr;
    CHECK(watched.buffer.take_ending(nullptr, error) == Ending::overflow && !error);
    CHECK(watched.buffer.take_ending(nullptr, error) == Ending::plain && !error);
}

TEST(a_producer_that_waits_for_room) {
    Watched<Tracked> watched(AIOBRIDGE_BLOCK, 1);
    watched.push(0, AIOBRIDGE_ACCEPTED);
    watched.push(1, AIOBRIDGE_FULL); // and counted as nothing: the answer follows
    watched.push_later(1, AIOBRIDGE_TIMED_OUT);
    CHECK(watched.take() == 1 && watched.park(1));
    CHECK(watched.push_later(2, AIOBRIDGE_ACCEPTED)); // and wakes
    watched.close(AIOBRIDGE_FINISHED);
    watched.push_later(3, AIOBRIDGE_CLOSED); // not timed out, though there is no room
    CHECK(watched.take() == 1);
    watched.push_later(4, AIOBRIDGE_CLOSED); // though there is room
    CHECK(Tracked::live == 0);
}

TEST(a_refusal_from_elsewhere_is_counted) {
    Buffer buffer(options_for<Event>(AIOBRIDGE_BLOCK, 1));
    CHECK(buffer.refuse(AIOBRIDGE_WOULD_DEADLOCK).fate == AIOBRIDGE_WOULD_DEADLOCK);
    Counts counts = buffer.counts();
    counts.accepted = 1, counts.delivered = 2, counts.evicted = 3, counts.merged = 4, counts.undelivered = 5;
    counts.pending = 6;
    Counts sum = counts;
    sum.add(counts);
    CHECK(sum.refused[AIOBRIDGE_WOULD_DEADLOCK] == 2 && sum.accepted == 2 && sum.delivered == 4 && sum.evicted == 6);
    CHECK(sum.merged == 8 && sum.undelivered == 10 && sum.pending == 12);
}

/// Its destructor asks the buffer something: a deadlock, if it runs under the lock.
struct Asking : Tracked {
    using Tracked::Tracked;
    Asking(Asking &&) = default;
    ~Asking() {
        if (buffer)
            CHECK(buffer->size() > 0);
    }
    static inline Buffer *buffer = nullptr;
};

TEST(a_merged_event_is_destroyed_without_the_lock) {
    Buffer buffer(options_for<Asking>(AIOBRIDGE_CONFLATE, 1));
    outgoing<Asking> first(Asking(0, 0)), second(Asking(0, 1));
    CHECK(buffer.push(first.get(), nullptr).fate == AIOBRIDGE_ACCEPTED);
    first.taken(), second.taken();
    Asking::buffer = &buffer;
    CHECK(buffer.push(second.get(), nullptr).fate == AIOBRIDGE_MERGED);
    Asking::buffer = nullptr;
    CHECK(Tracked::live == 1);
}

TEST(a_parked_consumer_is_woken_once) {
    Watched<Event> watched(AIOBRIDGE_DROP_OLDEST, 3);
    CHECK(!watched.push(0)); // it is awake
    CHECK(!watched.park(1) && watched.park(3));
    CHECK(!watched.push(1) && watched.push(2));
    CHECK(!watched.push(3) && !watched.push(4)); // the wake is on its way
    CHECK(watched.take(3) == 1 && watched.take(3) == 2);
    CHECK(watched.park(1));
    CHECK(!watched.push(5) && !watched.close(AIOBRIDGE_FINISHED)); // and still is
    watched.unpark();
    CHECK(!watched.park(2));
    CHECK(watched.take() == 1 && !watched.park(1)); // the end is something to see

    Watched<Event> closed(AIOBRIDGE_REFUSE, 3);
    CHECK(closed.park(3) && !closed.push(0) && closed.close(AIOBRIDGE_FINISHED));
    Watched<Event> failed(AIOBRIDGE_REFUSE, 3);
    CHECK(failed.park(1) && failed.fail(0));
    Watched<Event> unparked(AIOBRIDGE_REFUSE, 3);
    CHECK(unparked.park(1));
    unparked.unpark();
    CHECK(!unparked.push(0) && unparked.park(2) && unparked.push(1));
    unparked.unpark();
    CHECK(unparked.park(3) && unparked.push(2));
    Watched<Event> overflowing(AIOBRIDGE_ERROR, 1);
    CHECK(!overflowing.push(0) && overflowing.park(2) && overflowing.push(1, AIOBRIDGE_FULL));
}

TEST(those_who_wait_until_it_is_ready) {
    for (const auto overflow : {AIOBRIDGE_REFUSE, AIOBRIDGE_UNBOUNDED, AIOBRIDGE_DROP_OLDEST}) {
        Watched<Event> watched(overflow, 6, 4, 2);
        Waiter first, second;
        for (int lap = 0; lap < 3; ++lap) {
            for (int number = watched.size(); number < 3; ++number)
                watched.push(number);
            CHECK(watched.ready() && !watched.wait_until_ready(first));
            watched.push(3), watched.push(4);
            CHECK(!watched.ready() && watched.wait_until_ready(first) && watched.wait_until_ready(second));
            CHECK(watched.take() && watched.take() && !watched.ready());
            CHECK(watched.take() && watched.ready()); // both are given back
        }
        watched.push(5), watched.push(6);
        CHECK(watched.wait_until_ready(second) && watched.wait_until_ready(first));
        watched.close(AIOBRIDGE_FINISHED); // again
        CHECK(!watched.wait_until_ready(first));
        while (watched.take()) {
        }
    }
    Watched<Event> smallest(AIOBRIDGE_BLOCK, 1); // 1 and 0
    Waiter waiter;
    smallest.push(0);
    CHECK(smallest.wait_until_ready(waiter) && smallest.take() && smallest.ready());
}

TEST(the_first_ending_stays_and_is_taken_once) {
    for (const bool taken : {true, false}) {
        {
            Watched<Tracked> watched(AIOBRIDGE_REFUSE, 2);
            watched.push(0), watched.fail(1), watched.fail(2), watched.close(AIOBRIDGE_CONSUMER_CLOSED);
            CHECK(Tracked::live == 2); // the event and the first error
            Arrival<Tracked> error;
            const aiobridge_type *type = nullptr;
            if (taken) {
                CHECK(watched.buffer.take_ending(error.get(), type) == Ending::error);
                CHECK(type == &payload<Tracked>::type && Tracked::live == 2);
                CHECK(error.take().event().number == 1);
                CHECK(Tracked::live == 1);
                CHECK(watched.buffer.take_ending(error.get(), type) == Ending::plain && !type);
            }
            CHECK(watched.take() == 1 && watched.reason() == AIOBRIDGE_FAILED);
        }
        CHECK(Tracked::live == 0);
    }
    Watched<Event> closed(AIOBRIDGE_REFUSE, 1);
    closed.close(AIOBRIDGE_FAILED, Ending::broken), closed.close(AIOBRIDGE_FINISHED), closed.fail(0);
    CHECK(Tracked::live == 0);
    const aiobridge_type *type = nullptr;
    CHECK(closed.buffer.take_ending(nullptr, type) == Ending::broken && !type);
    CHECK(closed.buffer.take_ending(nullptr, type) == Ending::plain && !type);
}

TEST(what_was_abandoned_is_not_delivered) {
    for (const auto overflow : {AIOBRIDGE_DROP_OLDEST, AIOBRIDGE_UNBOUNDED})
        for (const int left : {0, 1, 3}) {
            {
                Watched<Tracked> watched(overflow, 3);
                for (int number = 0; number < left + 1; ++number)
                    watched.push(number);
                CHECK(watched.size() == 0 || watched.take() == 1);
                const int size = watched.size();
                watched.close(AIOBRIDGE_ABANDONED);
                watched.abandon(), watched.abandon();
                CHECK(watched.take() == 0 && !watched.park(1) && Tracked::live == size);
                for (int number = 0; number < size; number += 2) // every other one is left to the destructor
                    watched.take_undelivered();
                if (size == 0)
                    watched.take_undelivered(); // nothing
            }
            CHECK(Tracked::live == 0);
        }
}

// Whatever comes after what.
template <class T> void walk(aiobridge_overflow overflow, std::mt19937 &random) {
    const auto below = [&](std::size_t limit) { return random() % limit; };
    const std::size_t capacity = 1 + below(5);
    const bool marked = capacity > 1 && below(2);
    const std::size_t high = marked ? 2 + below(capacity - 1) : 0, low = marked ? 1 + below(high - 1) : 0;
    Watched<T> watched(overflow, capacity, high, low);
    Waiter waiters[4];
    std::size_t waiting = 0;
    bool abandoned = false;
    for (int step = 0; step < 200; ++step) {
        const int number = step;
        switch (below(10)) {
        case 0: watched.park(1 + below(capacity)); break;
        case 1: watched.unpark(); break;
        case 2:
            if (watched.ready())
                waiting = 0;
            if (waiting < std::size(waiters) && watched.wait_until_ready(waiters[waiting]))
                ++waiting;
            break;
        case 3:
        case 4:
        case 5:
            if (!abandoned)
                watched.take(std::is_same_v<T, Event> ? 1 + below(3) : 1);
            break;
        case 6:
            if (below(30) == 0)
                below(2) ? watched.close(AIOBRIDGE_FINISHED) : watched.fail(number);
            if (watched.reason() != AIOBRIDGE_OPEN && below(4) == 0) {
                watched.abandon();
                abandoned = true;
            }
            if (abandoned)
                watched.take_undelivered();
            break;
        case 7: // else not called
            if (overflow == AIOBRIDGE_BLOCK) {
                watched.push_later(number);
                break;
            }
            [[fallthrough]];
        default: watched.push(number);
        }
    }
}

TEST(any_steps_in_any_order) {
    std::mt19937 random(1);
    for (const auto overflow : policies)
        for (int turn = 0; turn < 100; ++turn) {
            walk<Event>(overflow, random);
            walk<Tracked>(overflow, random);
            CHECK(Tracked::live == 0);
        }
}

} // namespace
