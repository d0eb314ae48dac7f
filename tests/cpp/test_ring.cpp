// tests/cpp/test_ring.cpp: a ring holds its capacity, in order, and destroys what it is left with
#include "check.h"
#include "events.h"
#include "threads.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <type_traits>
#include <utility>

namespace {

using aiobridge::core::Ring;

template <class T> void put(Ring &ring, T &&event) {
    outgoing<std::decay_t<T>> out(std::decay_t<T>(std::forward<T>(event)));
    ring.put(out.get());
    out.taken();
}
template <class T> T take(Ring &ring) {
    Arrival<T> arrival;
    ring.take(arrival.get());
    return arrival.take();
}

TEST(exactly_the_capacity_fits_in_order) {
    for (const int capacity : {1, 2, 3, 4, 5, 7, 8, 1000, 1024}) {
        Ring ring(static_cast<std::size_t>(capacity), payload<int>::type);
        CHECK(ring.valid() && ring.capacity() == static_cast<std::size_t>(capacity));
        int next_put = 0, next_taken = 0;
        // Laps that start at each place of the circle, and end with 0, 1, 2, ... events left.
        for (int lap = 0; lap < 3 * std::min(capacity, 10) + 3; ++lap) {
            while (next_put - next_taken < capacity) {
                CHECK(!ring.full() && ring.size() == static_cast<std::size_t>(next_put - next_taken));
                put(ring, next_put);
                CHECK(*static_cast<int *>(ring.newest()) == next_put);
                ++next_put;
            }
            CHECK(ring.full() && ring.size() == ring.capacity());
            for (const int left = lap % capacity; next_put - next_taken > left; ++next_taken)
                CHECK(take<int>(ring) == next_taken);
        }
    }
}

// Pieces end where the circle does, and nothing else ends them.
TEST(many_at_once_from_each_place) {
    for (const int capacity : {1, 2, 3, 5, 8})
        for (int first = 0; first < capacity; ++first)
            for (int size = 0; size <= capacity; ++size)
                for (int limit = 0; limit <= capacity + 1; ++limit) {
                    Ring ring(static_cast<std::size_t>(capacity), payload<int>::type);
                    for (int number = 0; number < first; ++number)
                        put(ring, -1), take<int>(ring);
                    for (int number = 0; number < size; ++number)
                        put(ring, number);
                    int taken[10];
                    std::fill(std::begin(taken), std::end(taken), -2);
                    int count = static_cast<int>(ring.take_many(taken, static_cast<std::size_t>(limit)));
                    CHECK(count == std::min({size, limit, capacity - first}));
                    CHECK(ring.size() == static_cast<std::size_t>(size - count));
                    if (limit > count)
                        count +=
                            static_cast<int>(ring.take_many(taken + count, static_cast<std::size_t>(limit - count)));
                    CHECK(count == std::min(size, limit));
                    for (int number = 0; number < count; ++number)
                        CHECK(taken[number] == number);
                    CHECK(taken[count] == -2); // nothing is written beyond
                    for (; count < size; ++count)
                        CHECK(take<int>(ring) == count);
                    CHECK(ring.size() == 0);
                }
}

TEST(what_a_ring_is_left_with_is_destroyed_once) {
    constexpr int capacity = 3;
    for (int first = 0; first < capacity; ++first)
        for (int events = 0; events <= capacity; ++events) {
            {
                Ring ring(capacity, payload<Tracked>::type);
                for (int number = 0; number < first; ++number)
                    put(ring, Tracked(0, -1)), take<Tracked>(ring);
                for (int number = 0; number < events; ++number)
                    put(ring, Tracked(0, number));
                CHECK(Tracked::live == events);
                for (int number = 0; number < events / 2; ++number)
                    CHECK(take<Tracked>(ring).event().number == number);
                CHECK(Tracked::live == events - events / 2);
            }
            CHECK(Tracked::live == 0);
        }
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

TEST(events_are_aligned_and_do_not_overlap) {
    for (const int capacity : {1, 3, 8}) {
        Ring wide(static_cast<std::size_t>(capacity), payload<Wide>::type);
        Ring trivial(static_cast<std::size_t>(capacity), payload<WideTrivial>::type);
        Ring bytes(static_cast<std::size_t>(capacity), payload<unsigned char>::type);
        for (int lap = 0; lap < 3; ++lap) {
            for (int number = 0; number < capacity; ++number) {
                put(wide, Wide(number));
                put(trivial, WideTrivial{number});
                CHECK(reinterpret_cast<std::uintptr_t>(trivial.newest()) % alignof(WideTrivial) == 0);
                put(bytes, static_cast<unsigned char>(255 - number));
            }
            for (int number = 0; number < capacity; ++number) {
                CHECK(take<Wide>(wide).number == number);
                CHECK(take<WideTrivial>(trivial).number == number);
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

// Not with a sanitizer: those write to the memory they hand out, or to their notes on it, and end the process when
// there is none.
#if defined(__linux__) && !defined(UNDER_THREAD_SANITIZER) && !defined(UNDER_ADDRESS_SANITIZER)
constexpr bool memory_tells = true;
#else
constexpr bool memory_tells = false;
#endif

struct Large {
    std::uint64_t words[3];
};

TEST(a_large_capacity_costs_little_until_it_is_used) {
    const long before = memory_tells ? resident_bytes() : 0;
    Ring ring(std::size_t{1} << 20, payload<Large>::type);
    for (std::uint64_t number = 0; number < 100; ++number)
        put(ring, Large{{number, 0, 0}});
    if (memory_tells)
        CHECK(resident_bytes() - before < 8 << 20);
    for (std::uint64_t number = 0; number < 100; ++number)
        CHECK(take<Large>(ring).words[0] == number);
}

TEST(without_memory_a_ring_is_invalid) {
    // More bytes than a size_t counts, with the events or only with what aligns them.
    for (const std::size_t capacity : {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / sizeof(Large) + 1}) {
        const Ring ring(capacity, payload<Large>::type);
        CHECK(!ring.valid());
    }
    for (const std::size_t capacity : {SIZE_MAX / sizeof(WideTrivial), SIZE_MAX / sizeof(WideTrivial) + 1}) {
        const Ring ring(capacity, payload<WideTrivial>::type);
        CHECK(!ring.valid());
    }
    if (memory_tells) {
        const Ring ring(SIZE_MAX / 4 / sizeof(Large), payload<Large>::type);
        CHECK(!ring.valid() && ring.size() == 0);
    }
}

} // namespace
