// ext/core/pool.h: the native threads that run aiobridge::async calls
#pragma once

#include <aiobridge/c_api.h>

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace aiobridge::core {

/// Threads are started as calls come in, up to the size, and stay. Never destroyed.
class Pool {
public:
    /// Any thread. Never blocks on a user's code. -1: closed, or no thread could be started and none runs.
    int submit(aiobridge_job *job);

    /// The number of threads. False once a thread has been started. Any thread.
    bool resize(unsigned size);
    /// What it will have at most, if the first call comes now.
    unsigned size();
    unsigned started();
    /// Without the lock, for a child process, in which another thread of the parent may have held it: 0 or the size.
    unsigned configured_size() const noexcept { return size_; }

    /// Takes nothing more, and returns the calls that have not started, for the caller to drop.
    aiobridge_job *close();

private:
    void run(unsigned number);
    void wait(std::unique_lock<std::mutex> &);
    unsigned decide_size() const noexcept;

    // Guards all below; held for a few instructions, never over anyone's code.
    std::mutex mutex_;
    std::condition_variable work_;
    aiobridge_job *first_ = nullptr, **last_ = &first_;
    unsigned size_ = 0; // 0: not decided yet
    unsigned started_ = 0;
    unsigned idle_ = 0;                // threads that sleep, or were woken and do not run yet
    unsigned lingering_ = 0;           // 1: a thread without work stays awake for a moment, and needs no waking
    std::atomic<unsigned> queued_ = 0; // written under the lock; who lingers reads it without, and then looks again
    bool closed_ = false;
};

} // namespace aiobridge::core
