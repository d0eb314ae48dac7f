// aiobridge/convert.h: the one seam between C++ values and Python objects
#pragma once

#include <Python.h>

#include <aiobridge/c_api.h>
#include <aiobridge/detail/config.h>
#include <aiobridge/detail/payload.h>

#include <cstdint>
#include <exception>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN

/// How values of type T become Python objects with one binding tool. The converter joins an operation or a stream when
/// it is handed to Python, not when it is made: so code that only produces needs no binding tool.
///
/// `Binding` has two static functions, called with the GIL on the consumer's side:
///   template <class T> PyObject *to_python(T &&);   // a new reference; may throw
///   void set_error();                                // inside a catch block: the exception in flight, as a Python
///                                                    // error
/// and a third where `Binding::has_dtype<T>`:
///   template <class T> PyObject *make_array(uint64_t count, void **data);   // a new array; may throw
template <class Binding, class T> struct converter {
    using P = detail::payload_t<T>;

    static PyObject *value(void *payload) {
        try {
            return Binding::to_python(std::move(*static_cast<P *>(payload)));
        }
        AIOBRIDGE_RETHROW_FORCED_UNWIND
        catch (...) {
            Binding::set_error();
            return nullptr;
        }
    }
    static void error(void *payload) {
        try {
            std::rethrow_exception(*static_cast<std::exception_ptr *>(payload));
        }
        AIOBRIDGE_RETHROW_FORCED_UNWIND
        catch (...) {
            Binding::set_error();
        }
    }
    static PyObject *array(std::uint64_t count, void **data) {
        try {
            return Binding::template make_array<P>(count, data);
        }
        AIOBRIDGE_RETHROW_FORCED_UNWIND
        catch (...) {
            Binding::set_error();
            return nullptr;
        }
    }
    static constexpr auto array_or_null() -> PyObject *(*)(std::uint64_t, void **) {
        if constexpr (Binding::template has_dtype<P>)
            return &array;
        else
            return nullptr;
    }
    static constexpr aiobridge_converter table{sizeof(aiobridge_converter), 0, &value, &error, array_or_null()};
};

AIOBRIDGE_NAMESPACE_END
