// benchmarks/native/src/floors.cpp: what the machine can do without Python
#include "bench.h"
#include "sdk.h"

#include <pybind11/numpy.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <vector>

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace py = pybind11;

namespace {

/// Sleeps as a loop does, until a descriptor is written.
class Sleeper {
public:
    Sleeper() {
        epoll_event event{};
        event.events = EPOLLIN;
        if (signal_ < 0 || poll_ < 0 || epoll_ctl(poll_, EPOLL_CTL_ADD, signal_, &event) != 0)
            throw std::runtime_error("bench_native: no descriptor can be had");
    }
    ~Sleeper() {
        close(poll_);
        close(signal_);
    }
    void wake() const {
        const std::uint64_t one = 1;
        if (write(signal_, &one, sizeof one) != sizeof one)
            std::abort();
    }
    void sleep() const {
        epoll_event event;
        while (epoll_wait(poll_, &event, 1, -1) != 1) {
        }
        std::uint64_t count = 0;
        if (read(signal_, &count, sizeof count) != sizeof count)
            std::abort();
    }

private:
    const int signal_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int poll_ = epoll_create1(EPOLL_CLOEXEC);
};

/// Seconds for `count` times there and back, between this thread and the library's.
double round_trips(std::size_t count) {
    const Sleeper sleeper;
    const auto before = now();
    for (std::size_t i = 0; i < count; ++i) {
        sdk().ask([&] { sleeper.wake(); });
        sleeper.sleep();
    }
    return 1e-9 * static_cast<double>(now() - before);
}

/// Nanoseconds from the library's thread to this one, each after a pause of so many microseconds.
py::array_t<std::int64_t> one_way(std::size_t count, std::int64_t delay) {
    std::vector<std::int64_t> took(count);
    {
        const py::gil_scoped_release release;
        const Sleeper sleeper;
        std::atomic<std::int64_t> posted{0};
        for (auto &nanoseconds : took) {
            sdk().ask([&] {
                std::this_thread::sleep_for(std::chrono::microseconds(delay));
                posted.store(now());
                sleeper.wake();
            });
            sleeper.sleep();
            nanoseconds = now() - posted.load();
        }
    }
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(count), took.data());
}

/// Seconds to copy so many bytes, so many at once, from and to memory that was touched before.
double copy(std::size_t bytes, std::size_t at_once) {
    const std::vector<char> from(at_once, 'x');
    std::vector<char> to(at_once, 'y');
    const auto before = now();
    for (std::size_t copied = 0; copied < bytes; copied += at_once) {
        std::memcpy(to.data(), from.data(), at_once);
        asm volatile("" : : "r"(to.data()) : "memory"); // it is used
    }
    return 1e-9 * static_cast<double>(now() - before);
}

} // namespace

/// Callgrind counts what is inside: instructions.py tells it this name.
extern "C" __attribute__((visibility("default"), noinline)) PyObject *bench_counted(PyObject *function) {
    return PyObject_CallNoArgs(function);
}

void register_floors(py::module_ &m) {
    const py::call_guard<py::gil_scoped_release> release;
    m.def("counted", [](const py::function &function) {
        PyObject *result = bench_counted(function.ptr());
        if (!result)
            throw py::error_already_set();
        return py::reinterpret_steal<py::object>(result);
    });
    m.def("round_trips", &round_trips, py::arg("count"), release);
    m.def("one_way", &one_way, py::arg("count"), py::arg("delay"));
    m.def("copy", &copy, py::arg("bytes"), py::arg("at_once"), release);
}
