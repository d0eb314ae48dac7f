// ext/core/module.cpp: aiobridge._core, a table of contents
#include "abi.h"
#include "batches.h"
#include "drain.h"
#include "exit.h"
#include "future_iterator.h"
#include "future_type.h"
#include "handler.h"
#include "next.h"
#include "pausing.h"
#include "promise.h"
#include "runtime.h"
#include "scope.h"
#include "settings.h"
#include "stream.h"
#include "testing.h"
#include "words.h"
#include "writer.h"

#include <aiobridge/version.h>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace py = pybind11;
namespace core = aiobridge::core;

PYBIND11_MODULE(_core_contents, m, py::mod_gil_not_used()) {
    const auto must = [](int status) {
        if (status != 0)
            throw py::error_already_set();
    };
    must(core::init_names());
    must(core::init_words());
    core::Runtime::start();
    must(core::register_drain(m.ptr()));
    must(core::register_future(m.ptr()));
    must(core::register_future_iterator(m.ptr()));
    must(core::register_next(m.ptr()));
    must(core::register_stream(m.ptr()));
    must(core::register_batches(m.ptr()));
    must(core::register_promise(m.ptr()));
    must(core::register_scope(m.ptr()));
    must(core::register_writer(m.ptr()));
    must(core::register_handler());
    must(core::register_abi(m.ptr()));
    must(core::register_testing(m.ptr()));
#if defined(AIOBRIDGE_TEST_PAUSES)
    must(core::register_pausing(m.ptr()));
#endif
    core::register_settings(m);
    m.attr("_exceptions") = py::module_::import("aiobridge._exceptions"); // of which it raises
    m.attr("__version__") = std::to_string(AIOBRIDGE_VERSION_MAJOR) + "." + std::to_string(AIOBRIDGE_VERSION_MINOR) +
                            "." + std::to_string(AIOBRIDGE_VERSION_PATCH);
    py::module_::import("atexit").attr("register")(py::cpp_function(&core::at_exit));
    py::module_::import("os").attr("register_at_fork")(py::arg("after_in_child") =
                                                           py::cpp_function(&core::after_fork_in_child));
}

// Python 3.12 and later refuse by themselves what does not declare that it supports subinterpreters; before, pybind11's
// own initialisation would wait for ever for the GIL that its thread holds. So the question comes first.
extern "C" PYBIND11_EXPORT PyObject *PyInit__core() {
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "aiobridge works in the main interpreter only; import it there");
        return nullptr;
    }
    return PyInit__core_contents();
}
