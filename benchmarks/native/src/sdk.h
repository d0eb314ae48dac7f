// benchmarks/native/src/sdk.h: a native library with a thread of its own, that every contender wraps
#pragma once

#include <atomic>
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

/// Runs jobs on its one thread, in order. When it has nothing to do, the thread sleeps; but first it stays awake for
/// `linger` nanoseconds, as the threads of a library under load are: to wake it costs who asks 1 to 2 µs, half of an
/// operation, which say nothing about the bridge.
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
        bool asleep = false;
        {
            const std::lock_guard lock(mutex_);
            jobs_.push_back(std::move(job));
            any_.store(true, std::memory_order_relaxed);
            asleep = std::exchange(asleep_, false);
        }
        if (asleep)
            asked_.notify_one();
    }
    void linger(std::int64_t nanoseconds) { linger_ = nanoseconds; }

private:
    void work() {
        std::deque<Job> jobs;
        for (;;) {
            for (const auto until = now() + linger_; !any_.load(std::memory_order_relaxed) && now() < until;)
                std::this_thread::yield();
            {
                std::unique_lock lock(mutex_);
                asleep_ = jobs_.empty();
                asked_.wait(lock, [this] { return !jobs_.empty(); });
                jobs.swap(jobs_);
                any_.store(false, std::memory_order_relaxed);
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
    bool asleep_ = false; // and nobody has notified it since
    // What the mutex guards needs no order here: it only says that looking is worth while.
    std::atomic<bool> any_{false};
    std::atomic<std::int64_t> linger_{0};
    std::thread thread_;
};

/// Never destroyed: a library's threads outlive the interpreter.
inline Sdk &sdk() {
    static auto *library = new Sdk;
    return *library;
}
/// Another one, whose thread keeps a thread state of Python's.
Sdk &sdk_with_thread_state();
