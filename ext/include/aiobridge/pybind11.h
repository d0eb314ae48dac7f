// aiobridge/pybind11.h: future<T> and stream<T> as results of functions bound with pybind11
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <aiobridge/aiobridge.h>

#include <type_traits>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN

template <class T>
    requires std::is_base_of_v<pybind11::handle, T>
inline constexpr bool is_python_object<T> = true;

namespace detail {

struct pybind11_binding {
    template <class T> static PyObject *to_python(T &&value) {
        if constexpr (std::is_same_v<std::decay_t<T>, unit>)
            return pybind11::none().release().ptr();
        else
            return pybind11::cast(std::forward<T>(value), pybind11::return_value_policy::move).release().ptr();
    }
    template <class T>
    static constexpr bool has_dtype =
        std::is_trivially_copyable_v<T> && (std::is_arithmetic_v<T> || pybind11::detail::is_pod_struct<T>::value);
    template <class T> static PyObject *make_array(std::uint64_t count, void **data) {
        // Imports numpy. A struct needs a dtype that its module has declared.
        pybind11::object dtype;
        try {
            dtype = pybind11::dtype::of<T>();
        } catch (const std::runtime_error &) {
            throw pybind11::type_error("aiobridge.Stream.arrays: " + pybind11::type_id<T>() +
                                       " has no numpy dtype; declare it with PYBIND11_NUMPY_DTYPE, or use batches()");
        }
        pybind11::array array(pybind11::dtype(std::move(dtype)), static_cast<pybind11::ssize_t>(count));
        *data = array.mutable_data();
        return array.release().ptr();
    }
    static void set_error() {
        try {
            throw;
        }
        AIOBRIDGE_RETHROW_FORCED_UNWIND
        catch (pybind11::error_already_set &error) {
            // restore() may be called once, and the exception may be shared by several futures.
            PyErr_SetObject(error.type().ptr(), error.value().ptr());
        }
        catch (...) {
            pybind11::detail::try_translate_exceptions();
        }
    }
};

// A runtime that is missing or too old is an ImportError wherever it is found out. Registered when the module is
// loaded, because the first use may be in any bound function.
inline const bool import_error_registered = [] {
    if (!Py_IsInitialized() || !PyGILState_Check())
        return false; // an embedding program, not an extension module
    pybind11::register_local_exception_translator([](std::exception_ptr error) {
        try {
            if (error)
                std::rethrow_exception(error);
        } catch (const import_error &e) {
            PyErr_SetString(PyExc_ImportError, e.what());
        }
    });
    return true;
}();

// None, not pybind11's own name for void, which reads CapsuleType.
template <class T> constexpr auto signature_name() {
    if constexpr (std::is_void_v<T>)
        return pybind11::detail::const_name("None");
    else
        return pybind11::detail::make_caster<T>::name;
}

} // namespace detail
AIOBRIDGE_NAMESPACE_END

namespace pybind11::detail {

// One way only: a Future given to C++ as an argument is refused.
template <class T> struct type_caster<aiobridge::future<T>> {
    static constexpr auto name =
        const_name("collections.abc.Awaitable[") + aiobridge::detail::signature_name<T>() + const_name("]");
    bool load(handle, bool) { return false; }
    operator aiobridge::future<T> &(); // never called: load refuses
    template <class> using cast_op_type = aiobridge::future<T> &;
    static handle cast(const aiobridge::future<T> &future, return_value_policy, handle) {
        using converter = aiobridge::converter<aiobridge::detail::pybind11_binding, T>;
        PyObject *object = aiobridge::detail::api().operation_future(future.handle().get(), &converter::table);
        if (!object)
            throw error_already_set();
        return object;
    }
};

template <class T> struct type_caster<aiobridge::stream<T>> {
    static constexpr auto name = const_name("collections.abc.AsyncIterator[") + make_caster<T>::name + const_name("]");
    bool load(handle, bool) { return false; }
    operator aiobridge::stream<T> &(); // never called: load refuses
    template <class> using cast_op_type = aiobridge::stream<T> &;
    static handle cast(const aiobridge::stream<T> &stream, return_value_policy, handle) {
        using converter = aiobridge::converter<aiobridge::detail::pybind11_binding, T>;
        PyObject *object = aiobridge::detail::api().stream_object(stream.handle().get(), &converter::table);
        if (!object)
            throw error_already_set();
        return object;
    }
};

} // namespace pybind11::detail
