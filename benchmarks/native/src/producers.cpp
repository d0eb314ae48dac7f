// benchmarks/native/src/producers.cpp: what a post costs the thread that makes it
#include "bench.h"
#include "sdk.h"
#include "snippet.h"

#include <aiobridge/pybind11.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace {

/// Nanoseconds of each call, after a pause of so many microseconds.
template <class F> py::array_t<std::int64_t> time_each(std::size_t count, std::int64_t pause, F &&call) {
    std::vector<std::int64_t> took(count);
    {
        const py::gil_scoped_release release;
        std::thread([&] {
            for (std::size_t i = 0; i < count; ++i) {
                if (pause)
                    std::this_thread::sleep_for(std::chrono::microseconds(pause));
                const auto before = now();
                call(i);
                took[i] = now() - before;
            }
        }).join();
    }
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(count), took.data());
}

/// Seconds that `threads` threads take, each for all of its calls `call(thread, i)`, on the average.
template <class F> double time_all(std::size_t count, int threads, F &&call) {
    std::atomic<int> ready{0};
    std::atomic<std::int64_t> took{0};
    std::vector<std::thread> running;
    for (int thread = 0; thread < threads; ++thread)
        running.emplace_back([&, thread] {
            ready.fetch_add(1);
            while (ready.load() < threads) {
            }
            const auto before = now();
            for (std::size_t i = 0; i < count; ++i)
                call(thread, i);
            took.fetch_add(now() - before);
        });
    for (auto &thread : running)
        thread.join();
    return 1e-9 * static_cast<double>(took.load()) / threads;
}

/// A stream that has room for what is pushed; Python empties it after each turn.
class Pusher {
public:
    explicit Pusher(std::size_t capacity) : ends_(aiobridge::make_stream<Tick>({.capacity = capacity})) {}
    aiobridge::stream<Tick> stream() const { return ends_.second; }
    double push(std::size_t count, int threads) const {
        return time_all(count, threads, [this](int, std::size_t i) { push_one(i); });
    }
    void push_here(std::size_t count) const {
        for (std::size_t i = 0; i < count; ++i)
            push_one(i);
    }
    py::array_t<std::int64_t> push_each(std::size_t count, std::int64_t pause) const {
        return time_each(count, pause, [this](std::size_t i) { push_one(i); });
    }

private:
    void push_one(std::size_t i) const { ends_.first.push(Tick{static_cast<std::int64_t>(i), 0.5, 1}); }
    std::pair<aiobridge::writer<Tick>, aiobridge::stream<Tick>> ends_;
};

/// Operations that wait in Python, for one turn.
class Setter {
public:
    std::vector<aiobridge::future<std::int64_t>> make(std::size_t count) {
        std::vector<aiobridge::future<std::int64_t>> futures;
        promises_.clear();
        for (std::size_t i = 0; i < count; ++i) {
            auto [promise, future] = aiobridge::make_promise<std::int64_t>();
            promises_.push_back(std::move(promise));
            futures.push_back(std::move(future));
        }
        return futures;
    }
    /// Each thread sets its share.
    double set(int threads) const {
        const std::size_t share = promises_.size() / threads;
        return time_all(share, threads, [&](int thread, std::size_t i) { promises_[thread * share + i].set_value(1); });
    }
    void set_here() const {
        for (const auto &promise : promises_)
            promise.set_value(1);
    }
    py::array_t<std::int64_t> set_each(std::int64_t pause) const {
        return time_each(promises_.size(), pause, [this](std::size_t i) { promises_[i].set_value(1); });
    }

private:
    std::vector<aiobridge::promise<std::int64_t>> promises_;
};

/// What the alternative costs before it has done anything.
void take_gil() { const py::gil_scoped_acquire gil; }

void take_gil_with_state_kept() {
    keep_thread_state();
    take_gil();
}

/// The least that a post has to do: one atomic exchange, and a copy.
struct Floor {
    std::atomic<std::uint64_t> word{0};
    std::vector<Tick> ring = std::vector<Tick>(1024);
    void post(std::size_t i) {
        ring[i % 1024] = Tick{static_cast<std::int64_t>(i), 0.5, 1};
        word.exchange(i, std::memory_order_acq_rel);
    }
};

} // namespace

void register_producers(py::module_ &m) {
    const py::call_guard<py::gil_scoped_release> release;
    py::class_<Pusher>(m, "Pusher")
        .def(py::init<std::size_t>(), py::arg("capacity"))
        .def("stream", &Pusher::stream)
        .def("push", &Pusher::push, py::arg("count"), py::arg("threads") = 1, release)
        .def("push_here", &Pusher::push_here, py::arg("count"))
        .def("push_each", &Pusher::push_each, py::arg("count"), py::arg("pause") = 0);
    py::class_<Setter>(m, "Setter")
        .def(py::init())
        .def("make", &Setter::make, py::arg("count"))
        .def("set", &Setter::set, py::arg("threads") = 1, release)
        .def("set_here", &Setter::set_here)
        .def("set_each", &Setter::set_each, py::arg("pause") = 0);
    m.def(
        "take_gil", [](std::size_t count) { return time_all(count, 1, [](int, std::size_t) { take_gil(); }); },
        release);
    m.def(
        "take_gil_with_state_kept",
        [](std::size_t count) { return time_all(count, 1, [](int, std::size_t) { take_gil_with_state_kept(); }); },
        release);
    m.def("take_gil_each", [](std::size_t count) { return time_each(count, 0, [](std::size_t) { take_gil(); }); });
    m.def(
        "exchange_and_copy",
        [](std::size_t count) {
            Floor floor;
            return time_all(count, 1, [&](int, std::size_t i) { floor.post(i); });
        },
        release);
}
