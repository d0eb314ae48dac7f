// ext/core/pause.h: the steps of the runtime at which threads meet, where a test build can stop them
#pragma once

#if defined(AIOBRIDGE_TEST_PAUSES)

#include <atomic>
#include <cstdint>

namespace aiobridge::core {

/// One step in the code. It has static storage, and is known from the first time that a thread passes it.
class Pause {
public:
    constexpr explicit Pause(const char *name) noexcept : name(name) {}
    /// Any thread, whatever it holds: no Python, no lock, no allocation. Returns at once, later, or when it is told.
    void pass() noexcept;

    const char *const name;
    std::atomic<std::uint64_t> passed{0};
    Pause *next = nullptr; // of those known

private:
    std::atomic<bool> known_{false};
};

/// What the tests tell the steps. Any thread. Memory orders are relaxed, so that the steps order nothing that the
/// runtime does not, except for the thread that is held: there one thread waits for what another one did.
namespace pauses {

/// The newest of the steps known, linked by `next`.
Pause *known() noexcept;

/// Records the steps that this thread passes, from now on; the number of those passed since is the answer of traced().
void trace() noexcept;
int traced(const char *const *&names) noexcept;

/// A thread that comes to this step for the nth time from now on waits there, once, until release() or for so many
/// seconds. `here`: this thread alone, which calls pass_freely() when it is beyond; else whoever comes.
void hold(const char *name, int nth, bool here, double patience) noexcept;
void pass_freely() noexcept;
/// Waits until a thread is held. False: it passes freely, or the time is over.
bool wait_held(double seconds) noexcept;
void release() noexcept;
/// A thread was held for so long that it was let go.
bool lost_patience() noexcept;

/// From now on threads waver at each step, as a generator says that is made of the seed and the order of the threads;
/// 0: no more.
void shake(std::uint64_t seed) noexcept;

} // namespace pauses
} // namespace aiobridge::core

#define AIOBRIDGE_PAUSE(name)                                                                                          \
    do {                                                                                                               \
        static constinit ::aiobridge::core::Pause step_(name);                                                         \
        step_.pass();                                                                                                  \
    } while (false)

#else
#define AIOBRIDGE_PAUSE(name) static_cast<void>(0)
#endif
