// benchmarks/native/src/operations.cpp: one result from the library's thread, bridged in each way
#include "bench.h"
#include "sdk.h"
#include "snippet.h"

#include <aiobridge/pybind11.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include <unistd.h>

namespace py = pybind11;

namespace {

aiobridge::future<std::int64_t> ours(std::int64_t number) {
    auto [promise, future] = aiobridge::make_promise<std::int64_t>();
    sdk().ask([promise = std::move(promise), number] { promise.set_value(number); });
    return future;
}

py::object by_hand_with(Sdk &library, std::int64_t number) {
    auto *promise = new HandWrittenPromise;
    py::object future = promise->future(); // before the library can call back, and the promise is gone
    library.ask([promise, number] { promise->set(number); });
    return future;
}
py::object by_hand(std::int64_t number) { return by_hand_with(sdk(), number); }
py::object by_hand_kept(std::int64_t number) { return by_hand_with(sdk_with_thread_state(), number); }

// What they resolve to is the time at which the library's thread posted it, some time after it was asked.
void idle(std::int64_t microseconds) { std::this_thread::sleep_for(std::chrono::microseconds(microseconds)); }

aiobridge::future<std::int64_t> ours_stamped(std::int64_t delay) {
    auto [promise, future] = aiobridge::make_promise<std::int64_t>();
    sdk().ask([promise = std::move(promise), delay] {
        idle(delay);
        promise.set_value(now());
    });
    return future;
}

py::object by_hand_stamped(std::int64_t delay) {
    auto *promise = new HandWrittenPromise;
    py::object future = promise->future();
    sdk().ask([promise, delay] {
        idle(delay);
        promise->set(now());
    });
    return future;
}

// Written before the descriptor is, and read after that.
std::atomic<std::int64_t> stamped{0};

void write_stamped(int descriptor, std::int64_t delay) {
    sdk().ask([descriptor, delay] {
        idle(delay);
        stamped.store(now());
        const std::uint64_t one = 1;
        if (write(descriptor, &one, sizeof one) != sizeof one)
            std::abort();
    });
}

/// Operations that stay pending until all are completed at once, on the library's thread.
class Pending {
public:
    aiobridge::future<std::int64_t> make_one() {
        auto [promise, future] = aiobridge::make_promise<std::int64_t>();
        promises_.push_back(std::move(promise));
        return future;
    }
    void complete() {
        sdk().ask([promises = std::exchange(promises_, {})] { complete(promises); });
    }
    void complete_here() { complete(std::exchange(promises_, {})); }

private:
    using Promises = std::vector<aiobridge::promise<std::int64_t>>;
    static void complete(const Promises &promises) {
        for (const auto &promise : promises)
            promise.set_value(1);
    }
    Promises promises_;
};

} // namespace

Sdk &sdk_with_thread_state() {
    static auto *library = [] {
        auto *made = new Sdk;
        made->ask(&keep_thread_state);
        return made;
    }();
    return *library;
}

void register_operations(py::module_ &m) {
    m.def("linger", [](std::int64_t microseconds) {
        sdk().linger(1000 * microseconds);
        sdk_with_thread_state().linger(1000 * microseconds);
    });
    m.def("ours", &ours);
    m.def("by_hand", &by_hand);
    m.def("by_hand_kept", &by_hand_kept);
    m.def("ours_stamped", &ours_stamped);
    m.def("by_hand_stamped", &by_hand_stamped);
    m.def("write_stamped", &write_stamped);
    m.def("stamp", [] { return stamped.load(); });
    m.def("ours_on_the_pool", aiobridge::async([](std::int64_t number) { return number; }));
    // For executors, which call it without the GIL.
    m.def("blocking", [](std::int64_t number) { return number; }, py::call_guard<py::gil_scoped_release>());
    py::class_<Pending>(m, "Pending")
        .def(py::init())
        .def("make_one", &Pending::make_one)
        .def("complete", static_cast<void (Pending::*)()>(&Pending::complete))
        .def("complete_here", &Pending::complete_here);
}
