// ext/core/future_iterator.cpp: what `await future` iterates
#include "future_iterator.h"

namespace aiobridge::core {
namespace {

// Its fields: under Locked, though nobody but the task that awaits should have it.
struct FutureIterator {
    PyObject_HEAD
    Future *future; // owned; null at the end
    bool yielded;
};

PyTypeObject *iterator_type;

FutureIterator *as_iterator(PyObject *object) noexcept { return reinterpret_cast<FutureIterator *>(object); }

// What it holds, to be dropped outside of the lock.
Ref take_future(PyObject *self) noexcept {
    const Locked lock(self);
    return Ref(as_object(std::exchange(as_iterator(self)->future, nullptr)));
}

PySendResult send(PyObject *self, PyObject *, PyObject **out) noexcept {
    Ref held;
    bool yielded = false;
    {
        const Locked lock(self);
        held = Ref::borrow(as_object(as_iterator(self)->future));
        yielded = as_iterator(self)->yielded;
    }
    *out = nullptr;
    if (!held) {
        raise(PyExc_RuntimeError, "an await of aiobridge.Future was used twice; await the future again instead");
        return PYGEN_ERROR;
    }
    if (yielded && is_pending(as_future(held.get()))) {
        raise(PyExc_RuntimeError,
              "%R is still pending: await wasn't used with it, or no loop runs the coroutine that awaits it",
              held.get());
        return PYGEN_ERROR;
    }
    const PySendResult step = future_step(as_future(held.get()), out);
    if (step == PYGEN_NEXT) {
        const Locked lock(self);
        as_iterator(self)->yielded = true;
    } else {
        take_future(self);
    }
    return step;
}

PyObject *next(PyObject *self) noexcept {
    PyObject *out;
    return send(self, Py_None, &out) == PYGEN_RETURN ? stop_with_value(out) : out;
}

PyObject *send_method(PyObject *self, PyObject *) noexcept {
    PyObject *out;
    if (send(self, Py_None, &out) != PYGEN_RETURN)
        return out;
    if (!stop_with_value(out) && !PyErr_Occurred())
        PyErr_SetNone(PyExc_StopIteration);
    return nullptr;
}

PyObject *throw_method(PyObject *self, PyObject *const *arguments, Py_ssize_t count) noexcept {
    if (count < 1 || count > 3)
        return raise(PyExc_TypeError, "throw() takes an exception");
#if PY_VERSION_HEX >= 0x030c0000
    const auto warn = [] {
        return PyErr_WarnEx(PyExc_DeprecationWarning,
                            "the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature "
                            "instead.",
                            1);
    };
    if (count > 1 && guarded(warn) < 0)
        return nullptr;
#endif
    PyObject *type = arguments[0];
    PyObject *value = count > 1 && arguments[1] != Py_None ? arguments[1] : nullptr;
    PyObject *traceback = count > 2 && arguments[2] != Py_None ? arguments[2] : nullptr;
    if (traceback && !PyTraceBack_Check(traceback))
        return raise(PyExc_TypeError, "throw() third argument must be a traceback, not %R", traceback);
    Ref exception;
    if (PyExceptionInstance_Check(type)) {
        if (value)
            return raise(PyExc_TypeError, "throw() takes an exception, or its class and a value, not both");
        exception = Ref::borrow(type);
    } else if (PyExceptionClass_Check(type)) {
        guarded([=] { return PyErr_SetObject(type, value), true; });
        exception = take_exception(); // which makes the object
    } else {
        return raise(PyExc_TypeError, "throw() takes an exception, not %R", type);
    }
    if (traceback)
        PyException_SetTraceback(exception.get(), traceback);
    take_future(self);
    set_exception(exception.get());
    return nullptr;
}

PyObject *close_method(PyObject *self, PyObject *) noexcept {
    take_future(self);
    Py_RETURN_NONE;
}

int traverse(PyObject *self, visitproc visit, void *arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_iterator(self)->future);
    return 0;
}

int clear(PyObject *self) noexcept {
    take_future(self);
    return 0;
}

void dealloc(PyObject *self) noexcept {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"send", send_method, METH_O, nullptr},
    {"throw", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(throw_method)), METH_FASTCALL, nullptr},
    {"close", close_method, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_iter, reinterpret_cast<void *>(PyObject_SelfIter)},
    // `await` uses the one or the other, depending on Python's version.
    {Py_tp_iternext, reinterpret_cast<void *>(next)},
    {Py_am_send, reinterpret_cast<void *>(send)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge._core.FutureIterator", sizeof(FutureIterator), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

} // namespace

int register_future_iterator(PyObject *module) noexcept {
    iterator_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return iterator_type ? 0 : -1;
}

PyObject *make_future_iterator(Future *future) noexcept {
    Ref iterator = new_object(iterator_type);
    if (iterator)
        as_iterator(iterator.get())->future = as_future(Ref::borrow(as_object(future)).release());
    return iterator.release();
}

PyObject *stop_with_value(PyObject *value) noexcept {
    const Ref owned(value);
    if (value == Py_None)
        return nullptr;
    if (PyTuple_Check(value) || PyExceptionInstance_Check(value)) {
        if (const Ref stop{guarded([=] { return PyObject_CallOneArg(PyExc_StopIteration, value); })})
            set_exception(stop.get());
    } else {
        PyErr_SetObject(PyExc_StopIteration, value);
    }
    return nullptr;
}

} // namespace aiobridge::core
