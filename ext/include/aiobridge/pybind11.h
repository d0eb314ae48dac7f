// aiobridge/pybind11.h: future<T> and stream<T> as results of functions bound with pybind11
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <aiobridge/aiobridge.h>

#include <optional>
#include <tuple>
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
    template <class... Args> static PyObject *to_arguments(std::tuple<Args...> &arguments) {
        return std::apply(
            [](Args &...each) {
                return pybind11::make_tuple<pybind11::return_value_policy::move>(std::move(each)...).release().ptr();
            },
            arguments);
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

// How calls of a callback are converted.
template <class R, class... Args> struct pybind11_call {
    static PyObject *arguments(std::tuple<Args...> &arguments) {
        try {
            return pybind11_binding::to_arguments(arguments);
        }
        AIOBRIDGE_RETHROW_FORCED_UNWIND
        catch (...) {
            pybind11_binding::set_error();
            return nullptr;
        }
    }
    static bool result(PyObject *object, std::optional<payload_t<R>> &result) {
        try {
            if constexpr (!std::is_void_v<R>)
                result.emplace(pybind11::cast<R>(pybind11::reinterpret_borrow<pybind11::object>(object)));
            return true;
        }
        AIOBRIDGE_RETHROW_FORCED_UNWIND
        catch (const pybind11::cast_error &) {
            PyErr_Format(PyExc_TypeError, "a callback of native code returned %R, which is not %s", object,
                         pybind11::type_id<R>().c_str());
        }
        catch (...) {
            pybind11_binding::set_error();
        }
        return false;
    }
    static constexpr call_converter<R, Args...> table{&arguments, &result};
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

// A coroutine function may be given too.
template <class R> constexpr auto callback_result_name() {
    return signature_name<R>() + pybind11::detail::const_name(" | collections.abc.Awaitable[") + signature_name<R>() +
           pybind11::detail::const_name("]");
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

// One way only. A callable that comes where no loop runs is an error, not another overload's.
template <class R, class... Params> struct type_caster<aiobridge::callback<R(Params...)>> {
    using converter = aiobridge::detail::pybind11_call<R, std::remove_cvref_t<Params>...>;
    PYBIND11_TYPE_CASTER(aiobridge::callback<R(Params...)>,
                         const_name("collections.abc.Callable[[") +
                             ::pybind11::detail::concat(make_caster<std::remove_cvref_t<Params>>::name...) +
                             const_name("], ") + aiobridge::detail::callback_result_name<R>() + const_name("]"));
    bool load(handle source, bool) {
        if (!PyCallable_Check(source.ptr()))
            return false;
        aiobridge_callback *raw = aiobridge::detail::api().callback_create(source.ptr());
        if (!raw)
            throw error_already_set();
        value = {raw, converter::table};
        return true;
    }
    static handle cast(const aiobridge::callback<R(Params...)> &, return_value_policy, handle) = delete;
};

} // namespace pybind11::detail
