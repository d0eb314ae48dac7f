// weather._ext: the station for Python. What the library does on its own threads is handed to asyncio by aiobridge, and
// none of those threads ever waits for the GIL.
#include "station.h"

#include <aiobridge/pybind11.h>
#include <pybind11/chrono.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace {

using shared_station = std::shared_ptr<station>;

// Many events: a subscription becomes a stream. It ends where Python leaves it, and then the library is told.
aiobridge::stream<reading> readings(const shared_station &self, int sensor, std::size_t capacity) {
    // Who reads too slowly gets the newest readings: the station is not held up.
    auto [writer, stream] =
        aiobridge::make_stream<reading>({.capacity = capacity, .overflow = aiobridge::overflow::drop_oldest});
    const auto id = self->subscribe(sensor, [writer = writer](const reading &event) { writer.push(event); });
    // On aiobridge's hook thread, without the GIL: it may wait for the library's lock. The station lives at least as
    // long as somebody listens to it.
    stream.on_close([self, id](aiobridge::close_reason) { self->unsubscribe(id); });
    return stream;
}

// One result: a callback becomes a promise, and cancelling the task that awaits it becomes the library's abort.
aiobridge::future<double> calibrate(const shared_station &self, int sensor, int count) {
    auto [promise, future] = aiobridge::make_promise<double>();
    const auto id = self->calibrate(sensor, count, [promise = promise](std::error_code error, double offset) {
        if (error)
            promise.set_exception(std::system_error(error, "calibrate"));
        else
            promise.set_value(offset);
    });
    promise.on_cancel([self, id](aiobridge::cancel_reason) { self->abort(id); });
    return future;
}

// A function that blocks: it runs on aiobridge's pool, and a cancelled task sets its stop token.
double highest(aiobridge::stop_token stop, const shared_station &self, int sensor, int count) {
    return self->highest(sensor, count, [&stop] { return stop.stop_requested(); });
}

// Python functions that the library calls: one that it waits for, and one that it does not. Both run on the loop.
std::vector<int> inspect(const shared_station &self, const aiobridge::callback<bool(reading)> &plausible,
                         const aiobridge::callback<void(std::string)> &log) {
    return self->inspect([&plausible](const reading &now) { return plausible.call(now).get(); },
                         [&log](const std::string &line) { log(line); });
}

} // namespace

PYBIND11_MODULE(_ext, m, py::mod_gil_not_used()) {
    aiobridge::init(); // an aiobridge that is missing or too old is an ImportError of this module

    PYBIND11_NUMPY_DTYPE(reading, number, celsius); // for Stream.arrays
    py::class_<reading>(m, "Reading")
        .def(py::init<std::int64_t, double>(), py::arg("number"), py::arg("celsius"))
        .def_readonly("number", &reading::number)
        .def_readonly("celsius", &reading::celsius);

    py::class_<station, shared_station>(m, "Station")
        .def(py::init([](int sensors, std::chrono::microseconds interval) {
                 return std::make_shared<station>(sensors, interval);
             }),
             py::arg("sensors") = 4, py::arg("interval") = std::chrono::microseconds(1000))
        .def_property_readonly("subscriptions", &station::subscriptions)
        .def_property_readonly("calibrations", &station::calibrations)
        .def("readings", &readings, py::arg("sensor"), py::arg("capacity") = 1024)
        .def("calibrate", &calibrate, py::arg("sensor"), py::arg("readings") = 10)
        .def("highest", aiobridge::async(&highest), py::arg("sensor"), py::arg("readings") = 10)
        .def("inspect", aiobridge::async(&inspect), py::arg("plausible"), py::arg("log"));
}
