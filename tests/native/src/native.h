// tests/native/src/native.h: what the parts of the test module share
#pragma once

#include <aiobridge/pybind11.h>

#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace py = pybind11;

void register_operations(py::module_ &);
void register_streams(py::module_ &);
void register_faults(py::module_ &);
void register_endings(py::module_ &);
void register_allocations(py::module_ &);
void register_callbacks(py::module_ &);
void register_no_memory(py::module_ &);
void register_sdks(py::module_ &);
void register_vendor(py::module_ &);
void register_rival(py::module_ &);
void register_records(py::module_ &);

/// Something that happened so many times, with what it was told: tests wait for it instead of sleeping.
class Recorder {
public:
    void record(std::string what) { record(std::vector{std::move(what)}); }
    /// One after another, with nothing of another thread in between.
    void record(const std::vector<std::string> &words) {
        {
            const std::lock_guard lock(mutex_);
            records_.insert(records_.end(), words.begin(), words.end());
        }
        changed_.notify_all();
    }
    /// Call without the GIL. False after 20 s.
    bool wait(std::size_t count) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return records_.size() >= count; });
    }
    std::vector<std::string> records() {
        const std::lock_guard lock(mutex_);
        return records_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> records_;
};

/// A payload that is neither trivial nor small, and knows how many of its kind live.
struct Tracked {
    explicit Tracked(std::int64_t number_) : number(number_) { live.fetch_add(1); }
    Tracked(const Tracked &other) : number(other.number), text(other.text) { live.fetch_add(1); }
    Tracked(Tracked &&other) noexcept : number(other.number), text(std::move(other.text)) { live.fetch_add(1); }
    Tracked &operator=(const Tracked &) = default;
    ~Tracked() { live.fetch_sub(1); }
    std::int64_t number;
    std::string text = "long enough not to fit into the string object itself";
    static inline std::atomic<std::int64_t> live{0};
};

inline std::string name_of(aiobridge::close_reason reason) {
    static const char *const names[] = {"open",      "finished",   "failed",      "consumer_closed",  "abandoned",
                                        "cancelled", "scope_exit", "loop_closed", "interpreter_exit", "forked"};
    return names[static_cast<std::size_t>(reason)];
}

inline std::string name_of(aiobridge::fate fate) {
    static const char *const names[] = {"accepted", "evicted_oldest", "merged",         "dropped",   "full",
                                        "closed",   "timed_out",      "would_deadlock", "no_memory", "already_set"};
    return names[static_cast<std::size_t>(fate)];
}

inline aiobridge::overflow overflow_named(const std::string &name) {
    static const std::array names{"refuse", "drop_oldest", "drop_newest", "block", "conflate", "error", "unbounded"};
    const auto found = std::find(names.begin(), names.end(), name);
    return static_cast<aiobridge::overflow>(found == names.end() ? 77 : found - names.begin());
}

/// The name that the system shows for the calling thread.
std::string thread_name();
