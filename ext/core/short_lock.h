// ext/core/short_lock.h: a mutex that is taken inside every push
#pragma once

#include <atomic>

namespace aiobridge::core {

/// As std::mutex, for a few instructions at a time, inlined: the calls into the C library were a third of a push.
class ShortLock {
public:
    void lock() noexcept {
        int expected = free;
        // Acquire: what the last owner did.
        if (!state_.compare_exchange_strong(expected, held, std::memory_order_acquire, std::memory_order_relaxed))
            [[unlikely]]
            wait();
    }
    void unlock() noexcept {
        // Release: what this owner did.
        if (state_.exchange(free, std::memory_order_release) == contended) [[unlikely]]
            state_.notify_one();
    }

private:
    [[gnu::noinline]] void wait() noexcept {
        // The owner is done long before a thread could sleep and be woken, unless it lost its processor. And it goes on
        // to take the lock again: who looks at once has both sides pass the cache lines to and fro for each event (with
        // 8 pauses in place of 100, which were 1.7 µs there, an event took 1.4 times as long, and a push that had
        // company 2.5 times). What a pause takes differs between processors, by a factor of ten.
        for (int look = 0; look < 8; ++look) {
            for (int i = 0; i < 100; ++i)
                relax();
            int expected = free;
            if (state_.load(std::memory_order_relaxed) == free &&
                state_.compare_exchange_weak(expected, held, std::memory_order_acquire, std::memory_order_relaxed))
                return;
        }
        // Who has slept cannot know whether others still do, and takes the lock as `contended`: at worst one
        // notification too many, never one too few.
        while (state_.exchange(contended, std::memory_order_acquire) != free)
            state_.wait(contended, std::memory_order_relaxed);
    }
    static void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        asm volatile("yield");
#endif
    }

    enum : int { free, held, contended }; // contended: somebody may sleep, and the owner wakes one
    std::atomic<int> state_{free};
};

} // namespace aiobridge::core
