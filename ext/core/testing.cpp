// ext/core/testing.cpp: what this project's own tests need, and nobody else
//
// CPython's tests of futures make and complete them from Python, which nobody may do with an aiobridge.Future. So they
// get a subclass with asyncio's constructor, set_result and set_exception, and nothing else of its own: what they test
// is what native operations use.
#include "testing.h"

#include "bridge.h"
#include "exit.h"
#include "future.h"
#include "future_type.h"
#include "runtime.h"
#include "wait_result.h"

namespace aiobridge::core {
namespace {

Ref current_loop() noexcept {
    const Ref asyncio(PyImport_ImportModule("asyncio"));
    return asyncio ? guarded([&] { return Ref(PyObject_CallMethod(asyncio.get(), "get_event_loop", nullptr)); })
                   : Ref();
}

int init(PyObject *self, PyObject *arguments, PyObject *keywords) noexcept {
    static const char *names_[] = {"loop", nullptr};
    PyObject *given = Py_None;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$O:Future", const_cast<char **>(names_), &given))
        return -1;
    Future *future = as_future(self);
    if (is_initialized(future)) {
        raise(PyExc_RuntimeError, "%R is initialized already", self);
        return -1;
    }
    const Ref loop = given == Py_None ? current_loop() : Ref::borrow(given);
    const BridgeRef bridge = loop ? Bridge::of(loop.get()) : BridgeRef();
    if (!bridge || bridge->ask_debug(loop.get()) != 0)
        return -1;
    init_future(future, bridge.get());
    future->source_traceback = stack_in_debug_mode(*bridge).release();
    return PyErr_Occurred() ? -1 : 0;
}

// False with an error: it cannot be completed, or not again.
bool can_complete(Future *future) noexcept {
    if (!is_initialized(future))
        raise_no_loop(future);
    else if (!is_pending(future))
        raise(names.invalid_state_error, "%R is done already", as_object(future));
    else
        return true;
    return false;
}

PyObject *complete(Future *future, Ref result, Ref exception) noexcept {
    if (future_complete(future, std::move(result), std::move(exception), false) != 0)
        return nullptr;
    Py_RETURN_NONE;
}

PyObject *set_result(PyObject *self, PyObject *result) noexcept {
    if (!can_complete(as_future(self)))
        return nullptr;
    return complete(as_future(self), Ref::borrow(result), Ref());
}

PyObject *set_exception_of(PyObject *self, PyObject *given) noexcept {
    if (!can_complete(as_future(self)))
        return nullptr;
    Ref exception = PyExceptionClass_Check(given) ? Ref(PyObject_CallNoArgs(given)) : Ref::borrow(given);
    if (!exception)
        return nullptr;
    if (!PyExceptionInstance_Check(exception.get()))
        return raise(PyExc_TypeError, "%R is no exception", exception.get());
    if (PyErr_GivenExceptionMatches(exception.get(), PyExc_StopIteration)) {
        // asyncio refused it at first, and wraps it since a patch release of 3.12: so ask this interpreter's.
        const Ref loop = bridge_of(as_future(self))->loop();
        const Ref theirs(loop ? PyObject_CallMethod(loop.get(), "create_future", nullptr) : nullptr);
        if (!theirs || !Ref(PyObject_CallMethod(theirs.get(), "set_exception", "O", exception.get())) ||
            !Ref(PyObject_CallMethod(theirs.get(), "exception", nullptr)))
            return nullptr;
    }
    return complete(as_future(self), Ref(), std::move(exception));
}

PyMethodDef methods[] = {
    {"set_result", set_result, METH_O, nullptr},
    {"set_exception", set_exception_of, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_new, reinterpret_cast<void *>(PyType_GenericNew)},
    {Py_tp_init, reinterpret_cast<void *>(init)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge._core._FutureForTests", sizeof(Future), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                    slots};

// How many threads sleep in Future.result().
PyObject *waiting_threads(PyObject *, PyObject *) noexcept {
    return PyLong_FromUnsignedLong(Runtime::current().waiting_threads());
}

// Sets a time, in seconds; returns what it was.
PyObject *set_time(std::chrono::nanoseconds &time, PyObject *seconds) noexcept {
    using Seconds = std::chrono::duration<double>;
    const double wanted = PyFloat_AsDouble(seconds);
    if (wanted == -1.0 && PyErr_Occurred())
        return nullptr;
    const Seconds before = time;
    time = std::chrono::duration_cast<std::chrono::nanoseconds>(Seconds(wanted));
    return PyFloat_FromDouble(before.count());
}

// For how long they sleep if nothing wakes them.
PyObject *set_look_interval(PyObject *, PyObject *seconds) noexcept { return set_time(look_interval, seconds); }

// How long the interpreter's exit waits for threads that are inside it.
PyObject *set_exit_patience(PyObject *, PyObject *seconds) noexcept { return set_time(exit_patience, seconds); }

PyMethodDef functions[] = {
    {"_waiting_threads", waiting_threads, METH_NOARGS, nullptr},
    {"_set_look_interval", set_look_interval, METH_O, nullptr},
    {"_set_exit_patience", set_exit_patience, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

} // namespace

int register_testing(PyObject *module) noexcept {
    // Nobody else may derive from it, so that what is called a Future is one.
    future_type->tp_flags |= Py_TPFLAGS_BASETYPE;
    const Ref type(PyType_FromModuleAndSpec(module, &spec, reinterpret_cast<PyObject *>(future_type)));
    future_type->tp_flags &= ~Py_TPFLAGS_BASETYPE;
    return type && PyModule_AddObjectRef(module, "_FutureForTests", type.get()) == 0 &&
                   PyModule_AddFunctions(module, functions) == 0
               ? 0
               : -1;
}

} // namespace aiobridge::core
