// tests/cpp/test_short_lock.cpp: one at a time, and whoever sleeps is woken
#include "short_lock.h"

#include "check.h"
#include "threads.h"

#include <chrono>
#include <mutex>
#include <thread>

using namespace aiobridge::core;

namespace {

// The counter is plain: a thread sanitizer sees whether the lock orders what was done under it. Some hold it for so
// long that the others sleep; if one is not woken, the test hangs.
TEST(many_threads_one_at_a_time) {
    constexpr int threads = 8;
    const int rounds = scaled(40'000);
    ShortLock lock;
    long counter = 0;
    Crew(threads, [&](int) {
        for (int round = 0; round < rounds; ++round) {
            const std::lock_guard held(lock);
            ++counter;
            if (round % 512 == 0)
                std::this_thread::yield();
        }
    }).join();
    CHECK(counter == long{threads} * rounds);
}

// The owner leaves only when another one has asked, again and again; so each time somebody may be asleep.
TEST(two_threads_hand_it_over) {
    const int rounds = scaled(4'000);
    ShortLock lock;
    int turn = 0; // guarded
    Crew(2, [&](int me) {
        for (int round = 0; round < rounds;) {
            const std::lock_guard held(lock);
            if (turn != me)
                continue;
            turn = !me;
            ++round;
            std::this_thread::yield();
        }
    }).join();
}

// Each of those who have fallen asleep is woken, though each is woken by another one, and none comes after them.
TEST(all_who_sleep_are_woken) {
    for (int round = 0; round < 100; ++round) {
        ShortLock lock;
        int passed = 0; // guarded
        lock.lock();
        Crew crew(4, [&](int) {
            const std::lock_guard held(lock);
            ++passed;
        });
        // By then most have looked in vain; but where many processes run, a yield alone may take longer.
        const auto moment = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
        while (std::chrono::steady_clock::now() < moment)
            std::this_thread::yield();
        lock.unlock();
        crew.join();
        CHECK(passed == 4);
    }
}

} // namespace
