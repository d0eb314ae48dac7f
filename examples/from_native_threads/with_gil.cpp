// A guard for the GIL: when a thread of the library has to touch Python objects itself.
// Prefer the other three parts, in which no thread of the library ever waits for the GIL.
#include <aiobridge/pybind11.h>

#include <stdexcept>
#include <string>
#include <thread>

namespace py = pybind11;

// repr(object), on a native thread.
aiobridge::future<std::string> describe(py::object object) {
    auto [promise, future] = aiobridge::make_promise<std::string>();
    std::thread([held = object.release(), promise = promise] {
        try {
            const aiobridge::gil guard; // throws aiobridge::interpreter_exit when Python goes
            try {
                const auto object = py::reinterpret_steal<py::object>(held);
                promise.set_value(py::repr(object));
            } catch (const py::error_already_set &error) { // a Python object: it must not leave the guard
                throw std::runtime_error(error.what());
            }
        } catch (const std::exception &) {
            promise.set_exception(std::current_exception());
        }
    }).detach();
    return future;
}

void register_with_gil(py::module_ &m) { m.def("describe", &describe); }
