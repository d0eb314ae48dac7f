// ext/core/limit.h: how many calls of one callback run at a time, and which ones wait
#pragma once

#include <aiobridge/c_api.h>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace aiobridge::core {

class Call;

/// A call's place in the list of those that wait. Guarded by the limit's lock.
struct Waiting {
    Call *older = nullptr, *younger = nullptr;
    bool listed = false;    // neither started nor evicted
    bool at_hand = false;   // its drain has come: it may be started
    bool abandoned = false; // evicted while it was in the inbox: its drain frees it
};

/// Calls wait from their post until they run: first in the loop's inbox, which keeps their order among the loop's
/// results, then at hand, while as many run as may. Without a limit nothing here is used.
///
/// Any thread; the lock is held over nobody's code.
class Limit {
public:
    /// Once, before the first call.
    void set(const aiobridge_limit &) noexcept;
    bool is_set() const noexcept { return running_limit_ != 0; }
    aiobridge_overflow overflow() const noexcept { return overflow_; }
    std::uint64_t timeout() const noexcept { return timeout_; }

    struct Admitted {
        aiobridge_fate fate;
        Call *evicted = nullptr;   // has to fail; with a reference
        bool free_evicted = false; // else its drain does
        bool overflowed = false;   // policy `error`: this was the end
    };
    /// Never waits: the policy `block` answers `full`, and admit_later() is next.
    Admitted admit(Call &) noexcept;
    Admitted admit_later(Call &, std::chrono::steady_clock::time_point deadline) noexcept;
    /// The loop is gone.
    void close() noexcept;
    /// It was admitted, but its loop is gone. False: it was evicted, and has failed already.
    bool withdraw(Call &) noexcept;

    // Loop thread.

    enum class Arrival { start, wait, abandoned };
    /// The call's drain has come.
    Arrival arrive(Call &) noexcept;
    /// A call has ended. The next one to start, or null.
    Call *next() noexcept;
    bool has_waiting() noexcept;
    /// One of those that wait at hand, which is then not listed any more; or null. For a loop that was closed.
    Call *take_waiting() noexcept;

private:
    void append(Call &) noexcept;
    void remove(Call &) noexcept;
    Call *first_at_hand() noexcept;
    void started(Call &, std::unique_lock<std::mutex> &) noexcept;

    std::size_t running_limit_ = 0, waiting_limit_ = 0; // constant once set
    aiobridge_overflow overflow_ = AIOBRIDGE_REFUSE;
    std::uint64_t timeout_ = 0;

    std::mutex mutex_; // guards all below
    std::condition_variable room_;
    std::size_t running_ = 0, waiting_ = 0;
    Call *oldest_ = nullptr, *youngest_ = nullptr;
    bool closed_ = false;
};

} // namespace aiobridge::core
