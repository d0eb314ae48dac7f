// ext/core/limit.cpp: how many calls of one callback run at a time, and which ones wait
#include "limit.h"

#include "call.h"

namespace aiobridge::core {

void Limit::set(const aiobridge_limit &limit) noexcept {
    running_limit_ = limit.running;
    waiting_limit_ = limit.overflow == AIOBRIDGE_UNBOUNDED ? SIZE_MAX : limit.waiting;
    overflow_ = limit.overflow;
    timeout_ = limit.timeout;
}

void Limit::append(Call &call) noexcept {
    call.waiting.listed = true;
    call.waiting.older = youngest_;
    (youngest_ ? youngest_->waiting.younger : oldest_) = &call;
    youngest_ = &call;
    ++waiting_;
}

void Limit::remove(Call &call) noexcept {
    Waiting &waiting = call.waiting;
    waiting.listed = false;
    (waiting.older ? waiting.older->waiting.younger : oldest_) = waiting.younger;
    (waiting.younger ? waiting.younger->waiting.older : youngest_) = waiting.older;
    waiting.older = waiting.younger = nullptr;
    --waiting_;
}

Limit::Admitted Limit::admit(Call &call) noexcept {
    const std::lock_guard lock(mutex_);
    if (closed_)
        return {AIOBRIDGE_CLOSED};
    if (waiting_ < waiting_limit_) {
        append(call);
        return {AIOBRIDGE_ACCEPTED};
    }
    switch (overflow_) {
    case AIOBRIDGE_DROP_OLDEST: {
        Call *evicted = oldest_;
        remove(*evicted);
        evicted->retain();
        evicted->waiting.abandoned = true;
        append(call);
        return {AIOBRIDGE_EVICTED_OLDEST, evicted, evicted->waiting.at_hand};
    }
    case AIOBRIDGE_DROP_NEWEST: return {AIOBRIDGE_DROPPED};
    case AIOBRIDGE_ERROR: closed_ = true; return {AIOBRIDGE_FULL, nullptr, false, true};
    default: return {AIOBRIDGE_FULL};
    }
}

Limit::Admitted Limit::admit_later(Call &call, std::chrono::steady_clock::time_point deadline) noexcept {
    std::unique_lock lock(mutex_);
    if (!room_.wait_until(lock, deadline, [this] { return waiting_ < waiting_limit_ || closed_; }))
        return {AIOBRIDGE_TIMED_OUT};
    if (closed_)
        return {AIOBRIDGE_CLOSED};
    append(call);
    return {AIOBRIDGE_ACCEPTED};
}

void Limit::close() noexcept {
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }
    room_.notify_all();
}

bool Limit::withdraw(Call &call) noexcept {
    const std::lock_guard lock(mutex_);
    if (!call.waiting.listed)
        return false;
    remove(call);
    return true;
}

// Under the lock, which is given back to wake a producer that waits for the place.
void Limit::started(Call &call, std::unique_lock<std::mutex> &lock) noexcept {
    remove(call);
    ++running_;
    lock.unlock();
    room_.notify_one();
}

Limit::Arrival Limit::arrive(Call &call) noexcept {
    std::unique_lock lock(mutex_);
    if (call.waiting.abandoned)
        return Arrival::abandoned;
    call.waiting.at_hand = true;
    if (running_ >= running_limit_)
        return Arrival::wait;
    started(call, lock);
    return Arrival::start;
}

// Not simply the oldest: that one's drain may still be to come.
Call *Limit::first_at_hand() noexcept {
    Call *call = oldest_;
    while (call && !call->waiting.at_hand)
        call = call->waiting.younger;
    return call;
}

Call *Limit::next() noexcept {
    std::unique_lock lock(mutex_);
    --running_;
    Call *call = first_at_hand();
    if (call)
        started(*call, lock);
    return call;
}

bool Limit::has_waiting() noexcept {
    const std::lock_guard lock(mutex_);
    return waiting_ != 0;
}

Call *Limit::take_waiting() noexcept {
    const std::lock_guard lock(mutex_);
    Call *call = first_at_hand();
    if (call)
        remove(*call);
    return call;
}

} // namespace aiobridge::core
