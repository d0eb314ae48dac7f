// tests/cpp/threads.h: threads that begin together, and one that sleeps until it is woken
#pragma once

#include "waker.h"

#include <poll.h>

#include <cerrno>
#include <latch>
#include <thread>
#include <vector>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_THREAD_SANITIZER 1
#elif __has_feature(address_sanitizer)
#define UNDER_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define UNDER_THREAD_SANITIZER 1
#elif defined(__SANITIZE_ADDRESS__)
#define UNDER_ADDRESS_SANITIZER 1
#endif

/// Threads that waver at each step take their time.
constexpr int unless_shaken(int count) {
#if defined(AIOBRIDGE_TEST_PAUSES)
    return count / 40;
#else
    return count;
#endif
}

/// A thread sanitizer makes each access some ten times as slow.
constexpr int scaled(int count) {
#if defined(UNDER_THREAD_SANITIZER) && !defined(AIOBRIDGE_TEST_PAUSES)
    return count / 4;
#else
    return unless_shaken(count);
#endif
}

/// Calls body(0), body(1), ... each on a thread of its own, which all begin together. The destructor joins them.
class Crew {
public:
    template <class Body> Crew(int count, Body body) : ready_(count) {
        for (int index = 0; index < count; ++index)
            threads_.emplace_back([this, body, index] {
                ready_.arrive_and_wait();
                body(index);
            });
    }
    void join() { threads_.clear(); }

private:
    std::latch ready_;
    std::vector<std::jthread> threads_;
};

inline bool readable(const aiobridge::core::Signal &signal, int milliseconds = 0) {
    pollfd watched{signal.descriptor(), POLLIN, 0};
    int ready;
    do
        ready = ::poll(&watched, 1, milliseconds);
    while (ready < 0 && errno == EINTR);
    return ready == 1 && (watched.revents & POLLIN);
}

/// Sleeps, for ever if nobody sets the signal.
inline void wait_for(const aiobridge::core::Signal &signal) {
    while (!readable(signal, -1)) {
    }
}
