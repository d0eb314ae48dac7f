// benchmarks/native/src/bench.h: the parts of the module
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

/// A record of 24 bytes.
struct Tick {
    std::int64_t ns;
    double price;
    std::int64_t size;
};
static_assert(sizeof(Tick) == 24);

void register_operations(pybind11::module_ &m);
void register_events(pybind11::module_ &m);
void register_producers(pybind11::module_ &m);
void register_floors(pybind11::module_ &m);
