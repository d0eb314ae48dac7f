// tests/native/src/module.cpp: native threads that drive promises and streams for the tests
#include "native.h"

#include <pthread.h>

std::string thread_name() {
    char name[64] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    return name;
}

PYBIND11_MODULE(native, m, py::mod_gil_not_used()) {
    aiobridge::init();
    py::class_<Recorder, std::shared_ptr<Recorder>>(m, "Recorder")
        .def(py::init())
        .def("wait", &Recorder::wait, py::call_guard<py::gil_scoped_release>(), py::arg("count") = 1)
        .def_property_readonly("records", &Recorder::records);
    py::class_<Tracked>(m, "Tracked")
        .def(py::init<std::int64_t>())
        .def_readonly("number", &Tracked::number)
        .def_readonly("text", &Tracked::text)
        .def_property_readonly_static("live", [](const py::object &) { return Tracked::live.load(); });
    m.def("this_thread_name", &thread_name);
    register_operations(m);
    register_streams(m);
    register_faults(m);
    register_endings(m);
    register_allocations(m);
    register_callbacks(m);
    register_no_memory(m);
    register_sdks(m);
    register_vendor(m);
    register_rival(m);
    register_records(m);
}
