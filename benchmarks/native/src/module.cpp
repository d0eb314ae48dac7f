// benchmarks/native/src/module.cpp: a list of registrations
#include "bench.h"

PYBIND11_MODULE(bench_native, m) {
    register_operations(m);
    register_events(m);
    register_producers(m);
    register_floors(m);
}
