// ext/core/pausing.cpp: the steps of pause.h, for the tests of races. Not in ordinary builds
#include "pausing.h"

#include "pause.h"

#include <string_view>

namespace aiobridge::core {
namespace {

// Each step that any thread has passed, and how often.
PyObject *passed(PyObject *, PyObject *) noexcept {
    Ref all(PyDict_New());
    for (Pause *step = pauses::known(); all && step; step = step->next) {
        // A step in a function that was inlined into several places is one; a name may stand at several.
        PyObject *before = PyDict_GetItemString(all.get(), step->name);
        const Ref count(PyLong_FromUnsignedLongLong(step->passed.load(std::memory_order_relaxed) +
                                                    (before ? PyLong_AsUnsignedLongLong(before) : 0)));
        if (!count || PyDict_SetItemString(all.get(), step->name, count.get()) != 0)
            all = Ref();
    }
    return all.release();
}

PyObject *trace(PyObject *, PyObject *) noexcept {
    pauses::trace();
    Py_RETURN_NONE;
}

PyObject *traced(PyObject *, PyObject *) noexcept {
    const char *const *names = nullptr;
    const int count = pauses::traced(names);
    Ref all(PyList_New(0));
    for (int i = 0; all && i < count; ++i) {
        const Ref name(PyUnicode_FromString(names[i]));
        if (!name || PyList_Append(all.get(), name.get()) != 0)
            all = Ref();
    }
    return all.release();
}

PyObject *hold(PyObject *, PyObject *arguments) noexcept {
    const char *name;
    int nth, here;
    double patience;
    if (!PyArg_ParseTuple(arguments, "sipd", &name, &nth, &here, &patience))
        return nullptr;
    for (const Pause *step = pauses::known(); step; step = step->next)
        if (std::string_view(step->name) == name) {
            pauses::hold(step->name, nth, here, patience);
            Py_RETURN_NONE;
        }
    return raise(PyExc_LookupError, "no thread has passed a step %s", name);
}

PyObject *pass_freely(PyObject *, PyObject *) noexcept {
    pauses::pass_freely();
    Py_RETURN_NONE;
}

PyObject *wait_held(PyObject *, PyObject *seconds) noexcept {
    bool held = false;
    const double limit = PyFloat_AsDouble(seconds);
    if (limit == -1.0 && PyErr_Occurred())
        return nullptr;
    Py_BEGIN_ALLOW_THREADS
        held = pauses::wait_held(limit);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(held);
}

PyObject *release(PyObject *, PyObject *) noexcept {
    pauses::release();
    Py_RETURN_NONE;
}

PyObject *lost_patience(PyObject *, PyObject *) noexcept { return PyBool_FromLong(pauses::lost_patience()); }

PyObject *shake(PyObject *, PyObject *seed) noexcept {
    const auto wanted = PyLong_AsUnsignedLongLong(seed);
    if (wanted == static_cast<unsigned long long>(-1) && PyErr_Occurred())
        return nullptr;
    pauses::shake(wanted);
    Py_RETURN_NONE;
}

PyMethodDef functions[] = {
    {"_pauses", passed, METH_NOARGS, nullptr},
    {"_trace", trace, METH_NOARGS, nullptr},
    {"_traced", traced, METH_NOARGS, nullptr},
    {"_hold", hold, METH_VARARGS, nullptr},
    {"_pass_freely", pass_freely, METH_NOARGS, nullptr},
    {"_wait_held", wait_held, METH_O, nullptr},
    {"_release", release, METH_NOARGS, nullptr},
    {"_lost_patience", lost_patience, METH_NOARGS, nullptr},
    {"_shake", shake, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

// For a native thread of the tests, which goes on when a thread is held that has the GIL.
struct Remote {
    bool (*wait_held)(double seconds) noexcept;
    void (*release)() noexcept;
};
constinit Remote remote{pauses::wait_held, pauses::release};

} // namespace

int register_pausing(PyObject *module) noexcept {
    const Ref capsule(PyCapsule_New(&remote, "aiobridge._core._held", nullptr));
    return capsule && PyModule_AddObjectRef(module, "_held", capsule.get()) == 0
               ? PyModule_AddFunctions(module, functions)
               : -1;
}

} // namespace aiobridge::core
