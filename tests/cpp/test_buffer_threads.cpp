// tests/cpp/test_buffer_threads.cpp: each event has one fate, and nobody sleeps who has what he waits for
#include "buffer.h"

#include "check.h"
#include "events.h"
#include "pipe.h"
#include "threads.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>

using namespace aiobridge::core;
using std::chrono::steady_clock;

namespace {

constexpr aiobridge_overflow policies[] = {AIOBRIDGE_REFUSE,   AIOBRIDGE_DROP_OLDEST, AIOBRIDGE_DROP_NEWEST,
                                           AIOBRIDGE_BLOCK,    AIOBRIDGE_CONFLATE,    AIOBRIDGE_ERROR,
                                           AIOBRIDGE_UNBOUNDED};
constexpr bool loses_nothing(aiobridge_overflow overflow) {
    return overflow == AIOBRIDGE_BLOCK || overflow == AIOBRIDGE_UNBOUNDED;
}
constexpr int producers = 3;

template <class T> void many_producers(aiobridge_overflow overflow, std::size_t capacity, int count) {
    Pipe<T> pipe(options_for<T>(overflow, capacity));
    Ledger ledger(producers, count);
    std::atomic<int> writers{producers};
    std::atomic<std::uint64_t> pushed{0};
    const auto on_evicted = [&](T event) { ledger.enter(event_of(event)); };
    Crew crew(producers + 1, [&](int producer) {
        if (producer == producers) { // looks on
            while (!pipe.buffer.ended()) {
                const Counts counts = pipe.buffer.counts();
                CHECK(counts.accepted == sum(counts) && counts.pending <= pipe.buffer.capacity());
                CHECK(pipe.buffer.ready() || overflow != AIOBRIDGE_UNBOUNDED);
                std::this_thread::yield();
            }
            return;
        }
        for (int number = 0; number < count; ++number) {
            const aiobridge_fate fate = pipe.push(producer, number, on_evicted);
            if (fate != AIOBRIDGE_ACCEPTED && fate != AIOBRIDGE_EVICTED_OLDEST)
                ledger.enter({producer, number});
            pushed.fetch_add(1, std::memory_order_relaxed);
        }
        if (writers.fetch_sub(1) == 1)
            pipe.close();
    });
    Order order;
    std::uint64_t delivered = 0, weight = 0;
    for (std::size_t turn = 0; !pipe.buffer.ended(); ++turn) {
        pipe.sleep(1 + turn % std::min<std::size_t>(capacity, 4));
        // A push that has returned is readable.
        const std::uint64_t shown = pushed.load(std::memory_order_relaxed);
        CHECK(!loses_nothing(overflow) || delivered + pipe.buffer.size() >= shown);
        delivered += pipe.take([&](const Event &event) {
            order.enter(event, loses_nothing(overflow));
            ledger.enter(event);
            weight += static_cast<std::uint64_t>(event.weight);
        });
    }
    crew.join();
    const Counts counts = pipe.buffer.counts();
    pipe.fates.compare(counts);
    CHECK(ledger.complete() && counts.delivered == delivered && counts.pending == 0);
    CHECK(weight == delivered + counts.merged);
    CHECK(!loses_nothing(overflow) || delivered == static_cast<std::uint64_t>(producers * count));
}

TEST(many_producers_and_a_consumer_that_sleeps) {
    for (const auto overflow : policies) {
        many_producers<Event>(overflow, 64, scaled(24'000));
        for (const std::size_t capacity : {1, 2, 3}) {
            many_producers<Event>(overflow, capacity, scaled(6'000));
            many_producers<Tracked>(overflow, capacity, scaled(6'000));
        }
    }
    CHECK(Tracked::live == 0);
}

// Two close, in one moment, while others push until they are told. All of them are told, also those that wait.
TEST(a_close_among_pushes) {
    const int rounds = scaled(1'600);
    std::optional<Pipe<Tracked>> pipe;
    std::atomic<int> closes{0};
    std::barrier round_begins(producers + 2), closing(2), round_ends(producers + 2);
    const Crew crew(producers + 1, [&](int producer) {
        for (int round = 0; round < rounds; ++round) {
            round_begins.arrive_and_wait();
            if (producer == producers) {
                closing.arrive_and_wait();
                closes += pipe->close();
            } else {
                int number = 0;
                while (pipe->push(producer, number, [](const Tracked &) {}) != AIOBRIDGE_CLOSED)
                    ++number;
                CHECK(pipe->push(producer, number, [](const Tracked &) {}) == AIOBRIDGE_CLOSED);
            }
            round_ends.arrive_and_wait();
        }
    });
    for (int round = 0; round < rounds; ++round) {
        const auto overflow = policies[static_cast<std::size_t>(round) % std::size(policies)];
        pipe.emplace(options_for<Tracked>(overflow, static_cast<std::size_t>(1 + round % 3)));
        closes = 0;
        round_begins.arrive_and_wait();
        Order order;
        const auto on_event = [&](const Event &event) { order.enter(event, loses_nothing(overflow)); };
        std::uint64_t delivered = 0;
        for (const auto most = static_cast<std::uint64_t>(round % 20); delivered < most && !pipe->buffer.ended();
             delivered += pipe->take(on_event))
            pipe->sleep(1);
        closing.arrive_and_wait();
        if (round % 2) {
            closes += pipe->close();
        } else {
            outgoing<Tracked> error(Tracked(producers, 0));
            const bool failed = pipe->finish(pipe->buffer.fail(AIOBRIDGE_FAILED, payload<Tracked>::type, error.get()));
            closes += failed;
            if (failed)
                error.taken();
        }
        std::uint64_t undelivered = 0;
        if (round % 3 == 0) {
            pipe->buffer.abandon();
            while (auto event = take_undelivered<Tracked>(pipe->buffer)) {
                order.enter(event->event(), loses_nothing(overflow));
                ++undelivered;
            }
        } else {
            while (const std::size_t count = pipe->take(on_event))
                delivered += count;
        }
        CHECK(pipe->buffer.ended());
        round_ends.arrive_and_wait();
        // One of them ends it: who closes, or the one push that finds no room.
        CHECK(closes + (overflow == AIOBRIDGE_ERROR ? static_cast<int>(pipe->fates[AIOBRIDGE_FULL]) : 0) == 1);
        const Counts counts = pipe->buffer.counts();
        pipe->fates.compare(counts);
        CHECK(counts.delivered == delivered && counts.undelivered == undelivered && counts.pending == 0);
        pipe.reset();
        CHECK(Tracked::live == 0);
    }
}

// Few events in each: the consumer parks again and again while the pipe fills, overflows and is closed.
TEST(many_short_lives) {
    const int rounds = scaled(14'000);
    std::optional<Pipe<Event>> pipe;
    std::atomic<int> writers{0};
    std::barrier round_begins(producers + 1), round_ends(producers + 1);
    const Crew crew(producers, [&](int producer) {
        for (int round = 0; round < rounds; ++round) {
            round_begins.arrive_and_wait();
            for (int number = 0; number < round % 6; ++number)
                pipe->push(producer, number, [](const Event &) {});
            if (writers.fetch_sub(1) == 1)
                pipe->close();
            round_ends.arrive_and_wait();
        }
    });
    for (int round = 0; round < rounds; ++round) {
        const auto overflow = policies[static_cast<std::size_t>(round) % std::size(policies)];
        const auto capacity = static_cast<std::size_t>(1 + round % 4);
        pipe.emplace(options_for<Event>(overflow, capacity));
        writers = producers;
        round_begins.arrive_and_wait();
        std::uint64_t delivered = 0;
        while (!pipe->buffer.ended()) {
            pipe->sleep(capacity);
            delivered += pipe->take([](const Event &) {});
        }
        round_ends.arrive_and_wait();
        pipe->fates.compare(pipe->buffer.counts());
        CHECK(!loses_nothing(overflow) || delivered == static_cast<std::uint64_t>(producers * (round % 6)));
    }
}

// One producer waits for ever, if the room that was made for it was told to one that gave up.
TEST(producers_that_give_up_waiting) {
    const int count = scaled(8'000);
    for (const std::size_t capacity : {1, 2, 5}) {
        Pipe<Tracked> pipe(options_for<Tracked>(AIOBRIDGE_BLOCK, capacity));
        Ledger ledger(producers, count);
        std::atomic<int> writers{producers};
        Crew crew(producers, [&](int producer) {
            for (int number = 0; number < count; ++number) {
                const auto deadline =
                    producer == 0 ? never() : steady_clock::now() + std::chrono::microseconds(number % 5 * 10);
                const aiobridge_fate fate = pipe.push(producer, number, [](const Tracked &) {}, deadline);
                CHECK(fate == AIOBRIDGE_ACCEPTED || (fate == AIOBRIDGE_TIMED_OUT && producer != 0));
                if (fate == AIOBRIDGE_TIMED_OUT)
                    ledger.enter({producer, number});
            }
            if (writers.fetch_sub(1) == 1)
                pipe.close();
        });
        Order order;
        while (!pipe.buffer.ended()) {
            pipe.sleep(1);
            pipe.take([&](const Event &event) {
                order.enter(event, event.producer == 0);
                ledger.enter(event);
            });
        }
        crew.join();
        pipe.fates.compare(pipe.buffer.counts());
        CHECK(ledger.complete());
    }
    CHECK(Tracked::live == 0);
}

// Who slept comes later to the room than those who stayed awake, and is not left behind for that.
TEST(each_of_the_producers_that_wait_gets_room) {
    Pipe<Event> pipe(options_for<Event>(AIOBRIDGE_BLOCK, 1));
    Crew crew(producers, [&](int producer) {
        for (int number = 0; pipe.push(producer, number, [](const Event &) {}) == AIOBRIDGE_ACCEPTED;)
            ++number;
    });
    std::array<int, producers> delivered{};
    const auto on_event = [&](const Event &event) { ++delivered[static_cast<std::size_t>(event.producer)]; };
    for (int turn = 0; *std::min_element(delivered.begin(), delivered.end()) < 50; ++turn) {
        CHECK(turn < scaled(200'000));
        pipe.sleep(1);
        pipe.take(on_event);
    }
    pipe.close();
}

// Producers that stop at the high watermark, and go on when they are told.
TEST(producers_that_wait_until_it_is_ready) {
    const int count = scaled(8'000);
    for (const std::size_t high : {2, 5}) {
        std::array<Waiter, producers> waiters; // outlive the notification
        Pipe<Event> pipe(options_for<Event>(AIOBRIDGE_UNBOUNDED, 1, high));
        std::atomic<int> writers{producers};
        Crew crew(producers, [&](int producer) {
            for (int number = 0; number < count; ++number) {
                Waiter &waiter = waiters[static_cast<std::size_t>(producer)];
                waiter.given_back = false;
                if (pipe.buffer.wait_until_ready(&waiter))
                    waiter.given_back.wait(false);
                CHECK(pipe.push(producer, number, [](const Event &) {}) == AIOBRIDGE_ACCEPTED);
            }
            if (writers.fetch_sub(1) == 1)
                pipe.close();
        });
        Order order;
        while (!pipe.buffer.ended()) {
            pipe.sleep(1);
            // Each of the others may have seen it ready just before it was not.
            CHECK(pipe.buffer.size() < high + producers);
            pipe.take([&](const Event &event) { order.enter(event, true); });
        }
        crew.join();
        CHECK(pipe.buffer.counts().delivered == static_cast<std::uint64_t>(producers * count));
    }
}

} // namespace
