// A Python callable that may be copied, called and destroyed on any thread: here as a std::function of a library that
// knows nothing of Python.
#include <aiobridge/pybind11.h>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace py = pybind11;

class Sensor {
public:
    explicit Sensor(std::function<void(int)> listener) : listener_(std::move(listener)) {}
    // Every thread has a copy of the listener, calls it, and destroys it.
    void measure(int threads) const {
        std::vector<std::thread> running;
        for (int number = 0; number < threads; ++number)
            running.emplace_back([listener = listener_, number] { listener(number); });
        for (auto &thread : running)
            thread.join();
    }

private:
    std::function<void(int)> listener_;
};

void register_callable(py::module_ &m) {
    py::class_<Sensor, std::shared_ptr<Sensor>>(m, "Sensor")
        .def(py::init([](aiobridge::callback<void(int)> listener) { return std::make_shared<Sensor>(listener); }))
        .def("measure", &Sensor::measure, py::call_guard<py::gil_scoped_release>());
}
