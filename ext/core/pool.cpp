// ext/core/pool.cpp: the native threads that run aiobridge::async calls
#include "pool.h"

#include "operation.h"
#include "thread_name.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace aiobridge::core {
namespace {

// To wake a thread costs the loop's thread 1 to 2 µs, about what all the rest of a call does, and the call 5 to 10 µs.
constexpr std::chrono::microseconds longest_linger{20};

} // namespace

int Pool::submit(aiobridge_job *job) {
    std::unique_lock lock(mutex_);
    if (closed_)
        return -1;
    size_ = decide_size();
    // An idle thread that was woken still counts as idle until it runs, so compare with what is queued.
    if (queued_ >= idle_ + lingering_ && started_ < size_) {
        // Under the lock: nobody may count on a thread that then cannot be started.
        try {
            std::thread([this, number = started_] { run(number); }).detach();
            ++started_;
        } catch (const std::system_error &) {
            if (started_ == 0)
                return -1; // else those that run will do
        }
    }
    job->next = nullptr;
    *last_ = job;
    last_ = &job->next;
    ++queued_;
    // The first job is for the one who lingers, and as many as there are idle threads wake one each.
    const bool wake = queued_ > lingering_ && queued_ <= idle_ + lingering_;
    lock.unlock();
    if (wake)
        work_.notify_one();
    return 0;
}

bool Pool::resize(unsigned size) {
    const std::lock_guard lock(mutex_);
    if (started_ != 0)
        return size_ == size;
    size_ = size;
    return true;
}

unsigned Pool::size() {
    const std::lock_guard lock(mutex_);
    return decide_size();
}

unsigned Pool::decide_size() const noexcept {
    return size_ ? size_ : std::max(1u, std::thread::hardware_concurrency());
}

unsigned Pool::started() {
    const std::lock_guard lock(mutex_);
    return started_;
}

aiobridge_job *Pool::close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    queued_ = 0;
    last_ = &first_;
    return std::exchange(first_, nullptr);
}

void Pool::wait(std::unique_lock<std::mutex> &lock) {
    if (!lingering_) {
        lingering_ = 1;
        lock.unlock();
        for (const auto end = std::chrono::steady_clock::now() + longest_linger;
             !queued_ && std::chrono::steady_clock::now() < end;)
            std::this_thread::yield();
        lock.lock();
        lingering_ = 0;
        if (first_)
            return;
    }
    ++idle_;
    work_.wait(lock);
    --idle_;
}

void Pool::run(unsigned number) {
    name_this_thread(("pool-" + std::to_string(number)).c_str());
    std::unique_lock lock(mutex_);
    for (;;) {
        while (!first_)
            wait(lock);
        aiobridge_job *job = first_;
        first_ = job->next;
        --queued_;
        if (!first_)
            last_ = &first_;
        lock.unlock();
        if (Operation::from(job->operation)->is_cancelled())
            job->drop(job);
        else
            job->run(job);
        lock.lock();
    }
}

} // namespace aiobridge::core
