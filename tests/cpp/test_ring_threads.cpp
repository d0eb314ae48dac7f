// tests/cpp/test_ring_threads.cpp: what is put is taken, evicted or left, and a parked consumer is woken
#include "check.h"
#include "pipe.h"
#include "step.h"
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace {

/// Who got which event: each one once.
class Ledger {
public:
    Ledger(int producers, int count)
        : count_(count), fates_(static_cast<std::size_t>(producers) * static_cast<std::size_t>(count)) {}
    /// Any thread; a race, if two threads have the same event.
    void enter(const Event &event) { CHECK(++fates_[index(event)] == 1); }
    int entered() const { return static_cast<int>(std::count(fates_.begin(), fates_.end(), 1)); }

private:
    std::size_t index(const Event &event) const {
        return static_cast<std::size_t>(event.producer) * static_cast<std::size_t>(count_) +
               static_cast<std::size_t>(event.number);
    }
    int count_;
    std::vector<unsigned char> fates_;
};

/// One consumer's view: each producer's events come in order.
class Order {
public:
    explicit Order(int producers) : last_(static_cast<std::size_t>(producers), -1) {}
    void enter(const Event &event, bool gapless) {
        int &last = last_[static_cast<std::size_t>(event.producer)];
        CHECK(gapless ? event.number == last + 1 : event.number > last);
        last = event.number;
    }

private:
    std::vector<int> last_;
};

/// Threads that push `count` events each; the last one closes the pipe.
template <class T, class Push>
void push_all(Pipe<T> &pipe, std::atomic<int> &writers, int producer, int count, Push push) {
    for (int number = 0; number < count; ++number)
        CHECK(push(T{producer, number}));
    if (writers.fetch_sub(1) == 1)
        pipe.close();
}

template <class T> void many_producers_wait_for_room(int capacity, int producers, int count) {
    Pipe<T> pipe(capacity);
    std::atomic<int> writers{producers};
    Order order(producers);
    int taken = 0;
    Crew crew(producers, [&](int producer) {
        push_all<T>(pipe, writers, producer, count, [&](T event) { return pipe.push(std::move(event)); });
    });
    while (const std::optional<T> event = pipe.next()) {
        order.enter(event_of(*event), true);
        ++taken;
    }
    CHECK(taken == producers * count); // next() ends when all is taken, and not before
    CHECK(pipe.ring.ended() && !take<T>(pipe.ring));
    crew.join();
}

TEST(many_producers_and_a_consumer_that_sleeps) {
    many_producers_wait_for_room<Event>(64, 4, scaled(250'000));
    for (const int capacity : {1, 2, 3, 1000}) {
        many_producers_wait_for_room<Event>(capacity, 4, scaled(10'000));
        many_producers_wait_for_room<Tracked>(capacity, 4, scaled(10'000));
    }
    CHECK(Tracked::live == 0);
}

/// Puts = taken + evicted + left, each event once, whether the consumer comes to the end or goes away before.
template <class T> void many_producers_drop_the_oldest(int capacity, int producers, int count, bool to_the_end) {
    Pipe<T> pipe(capacity);
    std::atomic<int> writers{producers}, evicted{0};
    Ledger ledger(producers, count);
    Order order(producers);
    int taken = 0;
    const auto on_evicted = [&](const T &event) {
        ledger.enter(event_of(event));
        evicted.fetch_add(1, std::memory_order_relaxed);
    };
    Crew crew(producers, [&](int producer) {
        push_all<T>(pipe, writers, producer, count, [&](T event) { return pipe.push(std::move(event), on_evicted); });
    });
    while (to_the_end || taken < count / 10) {
        const std::optional<T> event = pipe.next();
        if (!event)
            break;
        order.enter(event_of(*event), false);
        ledger.enter(event_of(*event));
        ++taken;
    }
    crew.join();
    const int put = producers * count;
    CHECK(pipe.ring.put_count() == static_cast<std::uint64_t>(put));
    CHECK(pipe.ring.taken_count() == static_cast<std::uint64_t>(taken + evicted));
    const int left = put - taken - evicted;
    CHECK(to_the_end ? left == 0 : left <= capacity);
    CHECK(pipe.ring.ended() == (left == 0));
    CHECK(ledger.entered() == taken + evicted);
    CHECK(pipe.ring.discard() == static_cast<std::size_t>(left));
    CHECK(pipe.ring.ended());
}

TEST(many_producers_that_evict) {
    for (const bool to_the_end : {true, false}) {
        many_producers_drop_the_oldest<Event>(64, 4, scaled(50'000), to_the_end);
        for (const int capacity : {1, 2, 3, 1000}) {
            many_producers_drop_the_oldest<Event>(capacity, 4, scaled(10'000), to_the_end);
            many_producers_drop_the_oldest<Tracked>(capacity, 4, scaled(10'000), to_the_end);
        }
    }
    CHECK(Tracked::live == 0);
}

// Closed by a thread that does not put, while others put and evict: what was accepted is there, and nothing more.
TEST(a_close_among_puts) {
    constexpr int producers = 3, rounds = 300;
    std::optional<Pipe<Tracked>> pipe;
    std::atomic<int> accepted{0}, evicted{0};
    std::barrier round_begins(producers + 1), round_ends(producers + 1);
    const Crew crew(producers, [&](int producer) {
        for (int round = 0; round < rounds; ++round) {
            round_begins.arrive_and_wait();
            const auto on_evicted = [&](const Tracked &) { evicted.fetch_add(1, std::memory_order_relaxed); };
            int number = 0;
            while (pipe->push(Tracked(producer, number), on_evicted))
                ++number;
            CHECK(!pipe->push(Tracked(producer, number), on_evicted));
            accepted.fetch_add(number, std::memory_order_relaxed);
            round_ends.arrive_and_wait();
        }
    });
    for (int round = 0; round < rounds; ++round) {
        pipe.emplace(1 + round % 5);
        accepted = evicted = 0;
        round_begins.arrive_and_wait();
        int taken = 0;
        for (; taken < round % 50; ++taken)
            CHECK(pipe->next());
        pipe->close();
        while (pipe->next())
            ++taken;
        CHECK(pipe->ring.ended());
        round_ends.arrive_and_wait();
        CHECK(accepted == taken + evicted);
        CHECK(pipe->ring.put_count() == static_cast<std::uint64_t>(accepted) && pipe->ring.ended());
        CHECK(Tracked::live == 0);
    }
}

// Few events in each: the consumer parks again and again while the pipe fills, overflows and is closed.
TEST(many_short_lives) {
    constexpr int producers = 3, rounds = 10'000;
    std::optional<Pipe<Event>> pipe;
    std::atomic<int> writers{0}, evicted{0};
    std::barrier round_begins(producers + 1), round_ends(producers + 1);
    const Crew crew(producers, [&](int producer) {
        for (int round = 0; round < rounds; ++round) {
            round_begins.arrive_and_wait();
            push_all<Event>(*pipe, writers, producer, round % 7, [&](Event event) {
                return pipe->push(event, [&](const Event &) { evicted.fetch_add(1, std::memory_order_relaxed); });
            });
            round_ends.arrive_and_wait();
        }
    });
    for (int round = 0; round < rounds; ++round) {
        pipe.emplace(1 + round % 4);
        writers = producers;
        evicted = 0;
        round_begins.arrive_and_wait();
        int taken = 0;
        while (pipe->next())
            ++taken;
        round_ends.arrive_and_wait();
        CHECK(taken + evicted == producers * (round % 7));
    }
}

/// What must never be: the consumer sleeps, no wake is on its way, and there is something to see.
void check_not_forgotten(Pipe<Event> &pipe, bool asleep) {
    CHECK(!asleep || pipe.wake_is_queued() || (!pipe.ring.readable() && !take<Event>(pipe.ring) && !pipe.ring.ended()));
}

TEST(an_event_or_the_end_in_the_middle_of_a_park) {
    std::optional<Pipe<Event>> pipe;
    bool asleep = false;
    const auto prepare = [&] {
        pipe.emplace(2);
        asleep = false;
    };
    const auto park = [&] { asleep = pipe->park(); };
    const auto look_and_park = [&] {
        while (!asleep && !pipe->ring.ended())
            if (!take<Event>(pipe->ring))
                asleep = pipe->park();
    };
    const auto push = [&] { CHECK(pipe->push(Event{})); };
    const auto close = [&] { pipe->close(); };
    const auto verify = [&] { check_not_forgotten(*pipe, asleep); };
    Step::through(prepare, park, push, verify);
    Step::through(prepare, park, close, verify);
    Step::through(prepare, look_and_park, push, verify);
    Step::through(prepare, look_and_park, close, verify);
    Step::through(prepare, push, look_and_park, verify);
    Step::through(prepare, close, look_and_park, verify);
}

// A producer found no room and evicts, then finds the ring closed: it puts nothing, and so wakes nobody. The consumer,
// which read the position of the evicted event, has to see by itself that there is another one.
TEST(an_eviction_in_the_middle_of_a_park) {
    std::optional<Pipe<Event>> pipe;
    bool asleep = false;
    Step::through(
        [&] {
            pipe.emplace(2);
            CHECK(pipe->push(Event{0, 0}) && pipe->push(Event{0, 1}));
            CHECK(put(pipe->ring, Event{0, 2}) == Ring::Put::full);
            pipe->close();
        },
        [&] { asleep = pipe->park(); },
        [&] {
            CHECK(take<Event>(pipe->ring));
            CHECK(put(pipe->ring, Event{0, 2}) == Ring::Put::closed);
        },
        [&] { check_not_forgotten(*pipe, asleep); });
}

} // namespace
