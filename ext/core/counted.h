// ext/core/counted.h: native objects that are alive, for stats() and for tests that look for leaks
#pragma once

#include <atomic>
#include <cstdint>

namespace aiobridge::core {

/// A base that counts the live objects of a class. Relaxed: a figure to look at, it orders nothing.
template <class T> class Counted {
public:
    static std::int64_t live() noexcept { return live_.load(std::memory_order_relaxed); }
    /// In a child process: what was inherited is never freed, and not counted.
    static void forget() noexcept { live_.store(0, std::memory_order_relaxed); }
    Counted(const Counted &) = delete;
    Counted &operator=(const Counted &) = delete;

protected:
    Counted() noexcept { live_.fetch_add(1, std::memory_order_relaxed); }
    ~Counted() { live_.fetch_sub(1, std::memory_order_relaxed); }

private:
    static inline std::atomic<std::int64_t> live_{0};
};

} // namespace aiobridge::core
