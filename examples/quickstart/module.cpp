#include <aiobridge/pybind11.h>
#include <thread>

PYBIND11_MODULE(quickstart, m, pybind11::mod_gil_not_used()) {
    m.def("add", aiobridge::async([](int a, int b) { return a + b; })); // runs on a native pool
    m.def("count", [](int n) {                                          // events of a native thread
        auto [writer, stream] = aiobridge::make_stream<int>({.capacity = 1024});
        std::thread([writer = writer, n] { for (int i = 0; i < n; ++i) writer.push(i); }).detach();
        return stream;
    });
}
