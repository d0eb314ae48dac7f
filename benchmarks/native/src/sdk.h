// benchmarks/native/src/sdk.h: a native library with a thread of its own, that every contender wraps
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

/// Steady time in nanoseconds: what Python's time.perf_counter_ns() reads on Linux.
inline std::int64_t now() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

/// Runs jobs on its one thread, in order.
class Sdk {
public:
    using Job = std::function<void()>;

    Sdk() : thread_([this] { work(); }) {}
    ~Sdk() {
        ask({});
        thread_.join();
    }

    /// Any thread. Never calls the job itself.
    void ask(Job job) {
        bool was_empty = false;
        {
            const std::lock_guard lock(mutex_);
            was_empty = jobs_.empty();
            jobs_.push_back(std::move(job));
        }
        if (was_empty)
            asked_.notify_one();
    }

private:
    void work() {
        std::deque<Job> jobs;
        for (;;) {
            {
                std::unique_lock lock(mutex_);
                asked_.wait(lock, [this] { return !jobs_.empty(); });
                jobs.swap(jobs_);
            }
            for (Job &job : jobs) {
                if (!job)
                    return;
                job();
            }
            jobs.clear();
        }
    }

    std::mutex mutex_;
    std::condition_variable asked_;
    std::deque<Job> jobs_;
    std::thread thread_;
};

/// Never destroyed: a library's threads outlive the interpreter.
inline Sdk &sdk() {
    static auto *library = new Sdk;
    return *library;
}
/// Another one, whose thread keeps a thread state of Python's.
Sdk &sdk_with_thread_state();
