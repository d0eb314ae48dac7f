// "How to call Python from a boost thread?", in four parts: see main.py
#include <pybind11/pybind11.h>

void register_with_gil(pybind11::module_ &);
void register_callable(pybind11::module_ &);
void register_work_queue(pybind11::module_ &);
void register_call_later(pybind11::module_ &);

PYBIND11_MODULE(from_native_threads, m, pybind11::mod_gil_not_used()) {
    register_with_gil(m);
    register_callable(m);
    register_work_queue(m);
    register_call_later(m);
}
