// A detached thread that calls "spam" later.
#include <aiobridge/pybind11.h>

#include <chrono>
#include <string>
#include <thread>

namespace py = pybind11;

void register_call_later(py::module_ &m) {
    m.def("call_later", [](double seconds, aiobridge::callback<void(std::string)> callback) {
        std::thread([seconds, callback] { // copied without the GIL …
            std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
            callback("spam"); // … called without the GIL: runs on the loop …
        }).detach();          // … and destroyed without the GIL
    });
}
