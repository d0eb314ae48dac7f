// benchmarks/native/one_function/awaitable.cpp: the same function, awaitable
#include <aiobridge/pybind11.h>

PYBIND11_MODULE(awaitable, m) {
    m.def("add", aiobridge::async([](int a, int b) { return a + b; }));
}
