// aiobridge/detail/runtime.h: finds the runtime's table of functions, at the first use
#pragma once

#include <Python.h>

#include <aiobridge/c_api.h>
#include <aiobridge/detail/config.h>
#include <aiobridge/version.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

// The oldest table that serves these headers.
#ifndef AIOBRIDGE_ABI_MINOR_REQUIRED
#define AIOBRIDGE_ABI_MINOR_REQUIRED 0
#endif

AIOBRIDGE_NAMESPACE_BEGIN

/// The runtime is missing, or older than what this module was built for. Reaches Python as ImportError.
class import_error : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

namespace detail {

// Null until the first use, then the table, which is constant and never freed. Release and acquire, because the
// table's contents were written by the thread that imported the runtime.
inline constinit std::atomic<const aiobridge_api *> api_table{nullptr};

// Takes the pending Python error as text.
inline std::string take_python_error() {
    PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *text = value ? PyObject_Str(value) : nullptr;
    const char *utf8 = text ? PyUnicode_AsUTF8(text) : nullptr;
    std::string result = utf8 ? utf8 : "unknown error";
    PyErr_Clear();
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return result;
}

inline const aiobridge_api &load_api() {
    if (!Py_IsInitialized() || !PyGILState_Check())
        throw import_error("aiobridge: first used on a thread without the GIL; call aiobridge::init() in the "
                           "extension module's init function");
    const std::string built = "aiobridge: this module was built for ABI " + std::to_string(AIOBRIDGE_ABI_MAJOR) + "." +
                              std::to_string(AIOBRIDGE_ABI_MINOR_REQUIRED);
    PyObject *core = PyImport_ImportModule("aiobridge._core");
    if (!core)
        throw import_error(built + " and the aiobridge package cannot be imported: " + take_python_error());
    PyObject *capsule = PyObject_GetAttrString(core, AIOBRIDGE_CAPSULE_ATTRIBUTE);
    PyErr_Clear();
    const auto *table =
        capsule ? static_cast<const aiobridge_api *>(PyCapsule_GetPointer(capsule, AIOBRIDGE_CAPSULE_NAME)) : nullptr;
    PyErr_Clear();
    Py_XDECREF(capsule);
    Py_DECREF(core);
    if (!table)
        throw import_error(built +
                           ", which the installed aiobridge does not provide; install an aiobridge release with "
                           "that ABI, or rebuild this module");
    constexpr std::uint32_t required = AIOBRIDGE_ABI_MINOR_REQUIRED;
    bool too_old = table->struct_size < AIOBRIDGE_API_SIZE_1_0;
    if constexpr (required > 0)
        too_old = too_old || table->abi_minor < required;
    if (too_old)
        throw import_error(built + " and the installed aiobridge " + table->version + " provides ABI " +
                           std::to_string(table->abi_major) + "." + std::to_string(table->abi_minor) +
                           "; upgrade aiobridge, or rebuild this module");
    api_table.store(table, std::memory_order_release);
    return *table;
}

/// The table. Throws import_error at the first use, if at all.
inline const aiobridge_api &api() {
    const auto *table = api_table.load(std::memory_order_acquire);
    return table ? *table : load_api();
}

} // namespace detail

/// Finds the runtime now. Call it in the module's init function, and a runtime that is missing or too old is an
/// ImportError there instead of at the first call. Needs the GIL.
inline void init() { detail::api(); }

AIOBRIDGE_NAMESPACE_END
