// tests/native/src/newer.cpp: an extension built for a newer ABI than the runtime has
#include <aiobridge/pybind11.h>

#ifdef AT_IMPORT
PYBIND11_MODULE(native_newer_at_import, m, pybind11::mod_gil_not_used()) {
    m.def("answer", aiobridge::async([] { return 42; }));
}
#else
PYBIND11_MODULE(native_newer, m, pybind11::mod_gil_not_used()) {
    m.def("answer", [] {
        auto [promise, future] = aiobridge::make_promise<int>();
        promise.set_value(42);
        return future;
    });
}
#endif
