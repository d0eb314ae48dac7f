// ext/core/pause.cpp: stops threads where a test wants them. Not in ordinary builds
#include "pause.h"

#include <chrono>
#include <cstring>
#include <thread>

namespace aiobridge::core {
namespace {

using Clock = std::chrono::steady_clock;

std::atomic<Pause *> newest{nullptr};
std::atomic<bool> in_use{false}; // any of the below, or of a thread's own; once

// The one thread that is to be held.
enum class Hold : std::uint8_t { none, wanted, held, released, passed };
std::atomic<Hold> hold_state{Hold::none};
std::atomic<const char *> hold_name{nullptr};
std::atomic<int> hold_count{0};
std::atomic<bool> hold_here{false};
std::atomic<double> patience{0};
std::atomic<bool> impatient{false};

std::atomic<std::uint64_t> seed{0}, threads{0};

constexpr int trace_room = 512;

struct Own {
    const std::uint64_t number = threads.fetch_add(1, std::memory_order_relaxed) + 1;
    bool holds_here = false, traces = false;
    std::uint64_t seed = 0, random = 0;
    int traced = 0;
    const char *trace[trace_room];
};
thread_local Own own;

std::uint64_t scramble(std::uint64_t value) noexcept { // splitmix64
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

void waver(std::uint64_t wanted) noexcept {
    if (own.seed != wanted) {
        own.seed = wanted;
        own.random = scramble(wanted) + own.number * 0x9e3779b97f4a7c15;
    }
    own.random += 0x9e3779b97f4a7c15;
    const std::uint64_t drawn = scramble(own.random), amount = drawn >> 32;
    switch (drawn % 32) {
    case 0: std::this_thread::sleep_for(std::chrono::microseconds(amount % 30)); break;
    case 1:
    case 2:
    case 3:
    case 4: std::this_thread::yield(); break;
    case 5:
    case 6:
    case 7:
    case 8:
        for (std::uint64_t turn = amount % 2000; turn; --turn)
            std::atomic_signal_fence(std::memory_order_seq_cst);
        break;
    default: break;
    }
}

void nap() noexcept { std::this_thread::sleep_for(std::chrono::microseconds(20)); }

void stop_if_wanted(const char *name) noexcept {
    if (hold_here.load(std::memory_order_relaxed) && !own.holds_here)
        return;
    const char *wanted = hold_name.load(std::memory_order_relaxed);
    if (!wanted || std::strcmp(wanted, name) != 0 || hold_count.fetch_sub(1, std::memory_order_relaxed) != 1)
        return;
    auto expected = Hold::wanted;
    if (!hold_state.compare_exchange_strong(expected, Hold::held, std::memory_order_acq_rel))
        return;
    const auto deadline = Clock::now() + std::chrono::duration<double>(patience.load(std::memory_order_relaxed));
    while (hold_state.load(std::memory_order_acquire) == Hold::held)
        if (Clock::now() < deadline)
            nap();
        else
            impatient.store(true), hold_state.store(Hold::passed);
}

} // namespace

void Pause::pass() noexcept {
    if (!known_.load(std::memory_order_relaxed) && !known_.exchange(true, std::memory_order_relaxed)) {
        next = newest.load(std::memory_order_relaxed);
        while (!newest.compare_exchange_weak(next, this, std::memory_order_release, std::memory_order_relaxed)) {
        }
    }
    passed.fetch_add(1, std::memory_order_relaxed);
    if (!in_use.load(std::memory_order_relaxed))
        return;
    if (own.traces && own.traced < trace_room)
        own.trace[own.traced++] = name;
    if (const auto wanted = seed.load(std::memory_order_relaxed))
        waver(wanted);
    if (hold_state.load(std::memory_order_relaxed) == Hold::wanted)
        stop_if_wanted(name);
}

namespace pauses {

Pause *known() noexcept { return newest.load(std::memory_order_acquire); }

void trace() noexcept {
    own.traces = true;
    own.traced = 0;
    in_use.store(true, std::memory_order_relaxed);
}

int traced(const char *const *&names) noexcept {
    own.traces = false;
    names = own.trace;
    return own.traced;
}

void hold(const char *name, int nth, bool here, double seconds) noexcept {
    hold_state.store(Hold::none, std::memory_order_relaxed);
    own.holds_here = here;
    hold_here.store(here, std::memory_order_relaxed);
    hold_name.store(name, std::memory_order_relaxed);
    hold_count.store(nth, std::memory_order_relaxed);
    patience.store(seconds, std::memory_order_relaxed);
    in_use.store(true, std::memory_order_relaxed);
    hold_state.store(Hold::wanted, std::memory_order_release);
}

void pass_freely() noexcept {
    own.holds_here = false;
    auto expected = Hold::wanted;
    hold_state.compare_exchange_strong(expected, Hold::passed, std::memory_order_acq_rel);
}

bool wait_held(double seconds) noexcept {
    const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
    for (;; nap()) {
        const Hold state = hold_state.load(std::memory_order_acquire);
        if (state == Hold::held)
            return true;
        if (state == Hold::passed || Clock::now() >= deadline)
            return false;
    }
}

void release() noexcept {
    auto expected = Hold::held;
    hold_state.compare_exchange_strong(expected, Hold::released, std::memory_order_acq_rel);
}

bool lost_patience() noexcept { return impatient.exchange(false); }

void shake(std::uint64_t wanted) noexcept {
    seed.store(wanted, std::memory_order_relaxed);
    in_use.store(true, std::memory_order_relaxed);
}

} // namespace pauses
} // namespace aiobridge::core
