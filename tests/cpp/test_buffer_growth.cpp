// tests/cpp/test_buffer_growth.cpp: an unbounded buffer keeps its order, and is not locked while memory is found
#include "buffer.h"

#include "check.h"
#include "events.h"
#include "watched.h"

#include <new>
#include <utility>

using namespace aiobridge::core;

namespace {

/// What the next ring's allocation does before it answers. A buffer must not be locked then.
void (*while_it_allocates)() = nullptr;
bool memory_is_left = true;
TEST(an_unbounded_buffer_grows_and_shrinks_in_order) {
    for (const int capacity : {1, 3, 8}) {
        {
            Watched<Tracked> watched(AIOBRIDGE_UNBOUNDED, static_cast<std::size_t>(capacity));
            for (int lap = 1, number = 0; lap < 40; ++lap) {
                for (int pushed = 0; pushed < lap; ++pushed)
                    watched.push(number++, AIOBRIDGE_ACCEPTED);
                for (int taken = 0; taken < lap - lap % 3; ++taken)
                    CHECK(watched.take() == 1);
                CHECK(watched.ready());
            }
            watched.close(AIOBRIDGE_FINISHED);
            watched.push(0, AIOBRIDGE_CLOSED);
        }
        CHECK(Tracked::live == 0);
    }
}

Watched<Tracked> *growing = nullptr;

// Two wait, and the third one needs a new ring.
template <class Meanwhile, class Then> void while_it_grows(Meanwhile meanwhile, Then then) {
    {
        Watched<Tracked> watched(AIOBRIDGE_UNBOUNDED, 2);
        watched.push(0, AIOBRIDGE_ACCEPTED), watched.push(1, AIOBRIDGE_ACCEPTED);
        growing = &watched;
        while_it_allocates = meanwhile;
        then(watched);
        CHECK(!while_it_allocates);
        memory_is_left = true;
        while (watched.take()) {
        }
    }
    CHECK(Tracked::live == 0);
}

TEST(while_a_buffer_grows_others_use_it) {
    const auto accepted = [](auto &watched) { watched.push(9, AIOBRIDGE_ACCEPTED); };
    while_it_grows([] { CHECK(growing->take() == 1); }, accepted);
    while_it_grows([] { CHECK(growing->take() && growing->take()); }, accepted);
    while_it_grows([] { growing->push(2, AIOBRIDGE_ACCEPTED); }, accepted);
    while_it_grows( // the other one's ring, and a third one
        [] {
            for (int number = 2; number < 6; ++number)
                growing->push(number, AIOBRIDGE_ACCEPTED);
        },
        accepted);
    while_it_grows([] { CHECK(growing->size() == 2 && !growing->close(AIOBRIDGE_FINISHED)); },
                   [](auto &watched) { watched.push(9, AIOBRIDGE_CLOSED); });
    while_it_grows([] { memory_is_left = false; },
                   [](auto &watched) {
                       watched.push(9, AIOBRIDGE_NO_MEMORY);
                       CHECK(watched.take() == 1);
                       watched.push(9, AIOBRIDGE_ACCEPTED); // into the ring that there is
                   });
    while_it_grows(
        [] {
            memory_is_left = false;
            CHECK(growing->take() == 1);
        },
        accepted);
}

TEST(a_closed_buffer_does_not_grow) {
    Watched<Tracked> watched(AIOBRIDGE_UNBOUNDED, 1);
    watched.push(0, AIOBRIDGE_ACCEPTED);
    watched.close(AIOBRIDGE_FINISHED);
    memory_is_left = false;
    watched.push(1, AIOBRIDGE_CLOSED);
    memory_is_left = true;
}

} // namespace

// A ring's. The ordinary one behind it is the sanitizer's, if there is one.
void *operator new(std::size_t size, const std::nothrow_t &) noexcept {
    if (void (*meanwhile)() = std::exchange(while_it_allocates, nullptr))
        meanwhile();
    return memory_is_left ? ::operator new(size) : nullptr;
}
