// benchmarks/native/one_function/plain.cpp: a module with one function, in plain pybind11
#include <pybind11/pybind11.h>

PYBIND11_MODULE(plain, m) {
    m.def("add", [](int a, int b) { return a + b; });
}
