// tests/cpp/test_ring.cpp: a ring holds its capacity, in order, whatever comes in the middle of what
#include "check.h"
#include "pipe.h"
#include "step.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <new>
#include <optional>
#include <utility>

namespace {

TEST(exactly_the_capacity_fits) {
    for (const int capacity : {1, 2, 3, 4, 5, 7, 8, 1000, 1024}) {
        Ring ring(static_cast<std::size_t>(capacity), payload<int>::type);
        CHECK(ring.memory());
        int next_put = 0, next_taken = 0;
        // Laps that start at each place of the circle, and end with 0, 1, 2, ... events left.
        for (int lap = 0; lap < 3 * std::min(capacity, 10) + 3; ++lap) {
            while (next_put - next_taken < capacity) {
                CHECK(ring.size() == static_cast<std::size_t>(next_put - next_taken));
                CHECK(put(ring, next_put) == Ring::Put::done);
                ++next_put;
                CHECK(ring.readable());
            }
            CHECK(put(ring, -1) == Ring::Put::full);
            CHECK(put(ring, -1) == Ring::Put::full);
            const int left = lap % capacity;
            while (next_put - next_taken > left) {
                CHECK(take<int>(ring) == next_taken);
                ++next_taken;
            }
            CHECK(ring.readable() == (left > 0));
            CHECK(!ring.ended());
        }
        while (next_taken < next_put)
            CHECK(take<int>(ring) == next_taken++);
        CHECK(!take<int>(ring) && !ring.readable() && ring.size() == 0);
    }
}

TEST(a_closed_ring_ends_when_all_is_taken) {
    for (int events = 0; events <= 4; ++events) {
        Ring ring(4, payload<int>::type);
        for (int number = 0; number < events; ++number)
            CHECK(put(ring, number) == Ring::Put::done);
        CHECK(!ring.ended());
        ring.close();
        ring.close();
        for (int number = 0; number < events; ++number) {
            CHECK(!ring.ended() && ring.readable() && ring.size() == static_cast<std::size_t>(events - number));
            CHECK(put(ring, -1) == Ring::Put::closed);
            CHECK(take<int>(ring) == number);
        }
        CHECK(ring.ended() && !ring.readable() && !take<int>(ring) && ring.size() == 0);
        CHECK(put(ring, -1) == Ring::Put::closed);
        CHECK(ring.put_count() == static_cast<std::uint64_t>(events) && ring.taken_count() == ring.put_count());
    }
}

TEST(nothing_leaks) {
    for (const bool discard : {false, true}) {
        for (int events = 0; events <= 3; ++events) {
            Ring ring(3, payload<Tracked>::type);
            for (int number = 0; number < events; ++number)
                CHECK(put(ring, Tracked(0, number)) == Ring::Put::done);
            CHECK(Tracked::live == events);
            const int taken = events / 2;
            for (int number = 0; number < taken; ++number)
                CHECK(take<Tracked>(ring)->event().number == number);
            CHECK(Tracked::live == events - taken);
            if (discard) {
                ring.close();
                CHECK(ring.discard() == static_cast<std::size_t>(events - taken));
                CHECK(Tracked::live == 0 && ring.ended());
                CHECK(ring.discard() == 0);
            }
        }
        CHECK(Tracked::live == 0); // the destructor has destroyed the others
    }
    {
        Ring ring(2, payload<Tracked>::type);
        for (int number = 0; number < 2; ++number)
            CHECK(put(ring, Tracked(0, number)) == Ring::Put::done);
        CHECK(put(ring, Tracked(0, 2)) == Ring::Put::full); // is still the caller's, and dies with it
        ring.close();
        CHECK(put(ring, Tracked(0, 3)) == Ring::Put::closed);
        CHECK(Tracked::live == 2);
    }
    CHECK(Tracked::live == 0);
}

struct alignas(64) Wide {
    explicit Wide(int number_) : number(number_) { check(); }
    Wide(Wide &&other) noexcept : number(other.number) { check(); }
    ~Wide() { check(); }
    void check() const { CHECK(reinterpret_cast<std::uintptr_t>(this) % alignof(Wide) == 0); }
    int number;
    unsigned char more[100] = {};
};

struct alignas(64) WideTrivial {
    int number;
};

TEST(payloads_are_aligned_and_do_not_overlap) {
    for (const int capacity : {1, 3, 8}) {
        Ring wide(static_cast<std::size_t>(capacity), payload<Wide>::type);
        Ring trivial(static_cast<std::size_t>(capacity), payload<WideTrivial>::type);
        Ring bytes(static_cast<std::size_t>(capacity), payload<unsigned char>::type);
        for (int lap = 0; lap < 3; ++lap) {
            for (int number = 0; number < capacity; ++number) {
                CHECK(put(wide, Wide(number)) == Ring::Put::done);
                CHECK(put(trivial, WideTrivial{number}) == Ring::Put::done);
                CHECK(put(bytes, static_cast<unsigned char>(255 - number)) == Ring::Put::done);
            }
            for (int number = 0; number < capacity; ++number) {
                CHECK(take<Wide>(wide)->number == number);
                CHECK(take<WideTrivial>(trivial)->number == number);
                CHECK(take<unsigned char>(bytes) == 255 - number);
            }
        }
    }
}

long resident_bytes() {
    long pages = 0;
    std::FILE *file = std::fopen("/proc/self/statm", "r");
    CHECK(file && std::fscanf(file, "%*d %ld", &pages) == 1);
    std::fclose(file);
    return pages * ::sysconf(_SC_PAGESIZE);
}

// Not with a sanitizer: those write to the memory they hand out, or to their notes on it.
#if defined(__linux__) && !defined(UNDER_THREAD_SANITIZER) && !defined(UNDER_ADDRESS_SANITIZER)
constexpr bool memory_tells = true;
#else
constexpr bool memory_tells = false;
#endif

TEST(a_large_capacity_costs_little_until_it_is_used) {
    struct Large {
        std::uint64_t words[3];
    };
    constexpr int capacity = 1 << 20;
    const long before = memory_tells ? resident_bytes() : 0;
    Ring ring(capacity, payload<Large>::type);
    for (std::uint64_t number = 0; number < 100; ++number)
        CHECK(put(ring, Large{{number, 0, 0}}) == Ring::Put::done);
    if (memory_tells)
        CHECK(resident_bytes() - before < 8 << 20);
    for (std::uint64_t number = 0; number < 100; ++number)
        CHECK(take<Large>(ring)->words[0] == number);
    CHECK(!ring.readable());
}

/// A payload whose move calls `meanwhile`, once.
struct Slow {
    explicit Slow(int number_) : number(number_) {}
    Slow(Slow &&other) noexcept : number(other.number) {
        if (auto *function = std::exchange(meanwhile, nullptr))
            function();
    }
    ~Slow() {} // not trivial
    int number;
    static inline void (*meanwhile)() = nullptr;
    static inline Ring *ring = nullptr;
};

TEST(an_event_that_is_being_written_cannot_be_taken_and_is_not_forgotten) {
    Ring ring(2, payload<Slow>::type);
    Slow::ring = &ring;
    alignas(Slow) unsigned char event[sizeof(Slow)]; // the ring destroys it
    new (event) Slow(1);
    Slow::meanwhile = [] {
        CHECK(!Slow::ring->readable() && !take<Slow>(*Slow::ring));
        // The next one is complete, but not before its turn.
        CHECK(put(*Slow::ring, Slow(2)) == Ring::Put::done);
        CHECK(put(*Slow::ring, Slow(3)) == Ring::Put::full);
        CHECK(!Slow::ring->readable() && !take<Slow>(*Slow::ring));
        Slow::ring->close();
        CHECK(!Slow::ring->ended());
        CHECK(put(*Slow::ring, Slow(4)) == Ring::Put::closed);
    };
    CHECK(ring.put(event) == Ring::Put::done); // its place was taken before the end
    CHECK(!Slow::meanwhile);
    CHECK(ring.readable() && !ring.ended());
    CHECK(take<Slow>(ring)->number == 1);
    CHECK(take<Slow>(ring)->number == 2);
    CHECK(ring.ended());
}

TEST(the_slot_of_an_event_that_is_on_its_way_out_is_busy) {
    Ring ring(1, payload<Slow>::type);
    Slow::ring = &ring;
    CHECK(put(ring, Slow(1)) == Ring::Put::done);
    Slow::meanwhile = [] {
        CHECK(put(*Slow::ring, Slow(2)) == Ring::Put::busy);
        CHECK(!Slow::ring->readable() && !take<Slow>(*Slow::ring) && !Slow::ring->ended());
        Slow::ring->close();
        CHECK(Slow::ring->ended()); // taken, as far as anyone else is concerned
    };
    CHECK(take<Slow>(ring)->number == 1);
    CHECK(!Slow::meanwhile && ring.ended());
}

enum class Act { put, take, close };

/// What came of two acts in a ring.
struct Outcome {
    int first = 0, second = 0;
    int left[4] = {}, left_count = 0;
    bool ended = false;
    bool operator==(const Outcome &) const = default;
};

int perform(Ring &ring, Act act, int number) {
    int taken = -1;
    switch (act) {
    case Act::put: {
        const Ring::Put result = ring.put(&number);
        return static_cast<int>(result == Ring::Put::busy ? Ring::Put::full : result);
    }
    case Act::take: return ring.take(&taken) ? taken : -1;
    case Act::close: ring.close();
    }
    return 0;
}

// A size that is taken in the middle of an eviction and a put would be wrong by their number, or below zero.
TEST(the_size_in_the_middle_of_puts_and_evictions) {
    constexpr std::size_t capacity = 2;
    std::optional<Ring> ring;
    std::size_t size = 0;
    Step::through(
        [&] {
            ring.emplace(capacity, payload<int>::type);
            CHECK(perform(*ring, Act::put, 0) == 0 && perform(*ring, Act::put, 1) == 0);
        },
        [&] { size = ring->size(); },
        [&] {
            for (int number = 2; number < 7; ++number)
                CHECK(perform(*ring, Act::take, 0) == number - 2 && perform(*ring, Act::put, number) == 0);
        },
        [&] { CHECK(size == capacity); });
}

// Two acts at once come to the same as one after the other, in one order or the other.
TEST(every_pair_of_acts_at_once) {
    for (const int capacity : {1, 2, 3})
        for (int filled = 0; filled <= capacity; ++filled)
            for (const Act first : {Act::put, Act::take, Act::close})
                for (const Act second : {Act::put, Act::take, Act::close}) {
                    std::optional<Ring> ring;
                    Outcome outcome;
                    const auto prepare = [&] {
                        ring.emplace(static_cast<std::size_t>(capacity), payload<int>::type);
                        for (int lap = 0; lap < 3; ++lap) { // somewhere in the circle
                            CHECK(put(*ring, lap) == Ring::Put::done);
                            CHECK(take<int>(*ring) == lap);
                        }
                        for (int number = 0; number < filled; ++number)
                            CHECK(put(*ring, number) == Ring::Put::done);
                        outcome = Outcome{};
                    };
                    const auto do_first = [&] { outcome.first = perform(*ring, first, 100); };
                    const auto do_second = [&] { outcome.second = perform(*ring, second, 200); };
                    const auto look = [&] {
                        outcome.ended = ring->ended();
                        while (const auto event = take<int>(*ring)) {
                            CHECK(outcome.left_count < capacity);
                            outcome.left[outcome.left_count++] = *event;
                        }
                    };
                    prepare(), do_first(), do_second(), look();
                    const Outcome one_way = outcome;
                    prepare(), do_second(), do_first(), look();
                    const Outcome other_way = outcome;
                    Step::through(prepare, do_first, do_second, [&] {
                        look();
                        CHECK(outcome == one_way || outcome == other_way);
                    });
                }
}

} // namespace
