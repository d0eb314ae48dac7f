// ext/core/promise.cpp: aiobridge.Promise, with which Python code on any thread completes a Future
#include "promise.h"

#include "future.h"
#include "object.h"
#include "operation.h"
#include "python_hook.h"
#include "site.h"
#include "words.h"

namespace aiobridge::core {
namespace {

struct Promise {
    PyObject_HEAD
    Operation *operation; // its promise's end
};

PyTypeObject *promise_type;

Operation &operation_of(PyObject *self) noexcept { return *reinterpret_cast<Promise *>(self)->operation; }

PyObject *complete(PyObject *self, const aiobridge_type &type, Ref object) noexcept {
    PyObject *payload = object.get();
    const aiobridge_fate fate = operation_of(self).complete(&type, &payload);
    if (fate == AIOBRIDGE_ACCEPTED)
        object.release();
    return Ref::borrow(fate_word(fate)).release();
}

PyObject *set_result(PyObject *self, PyObject *const *arguments, Py_ssize_t count) noexcept {
    if (count > 1)
        return raise(PyExc_TypeError,
                     "Promise.set_result() takes one result, or none for None, and was given %zd; "
                     "make a tuple of them",
                     count);
    return complete(self, object_type, Ref::borrow(count ? arguments[0] : Py_None));
}

PyObject *set_exception(PyObject *self, PyObject *given) noexcept {
    Ref exception = to_exception(given, "Promise.set_exception()");
    return exception ? complete(self, object_error_type, std::move(exception)) : nullptr;
}

PyObject *cancelled(PyObject *self, PyObject *) noexcept { return PyBool_FromLong(operation_of(self).is_cancelled()); }

PyObject *close_reason(PyObject *self, PyObject *) noexcept {
    return Ref::borrow(reason_word(operation_of(self).reason())).release();
}

PyObject *on_cancel(PyObject *self, PyObject *function) noexcept {
    return install_python_hook(
        function, "Promise.on_cancel",
        [](void *operation, const aiobridge_hook &hook) {
            return static_cast<Operation *>(operation)->on_cancel(hook);
        },
        &operation_of(self));
}

PyObject *repr(PyObject *self) noexcept {
    Operation &operation = operation_of(self);
    const Ref made = short_text(operation.site());
    return made
               ? PyUnicode_FromFormat("<aiobridge.Promise %U, made at %U>", reason_word(operation.reason()), made.get())
               : nullptr;
}

void dealloc(PyObject *self) noexcept {
    PyTypeObject *type = Py_TYPE(self);
    if (Operation *operation = reinterpret_cast<Promise *>(self)->operation)
        operation->release_promise();
    type->tp_free(self);
    Py_DECREF(type);
}

// Not a method of the type: what is made is a pair.
PyObject *make_promise(PyObject *, PyObject *) noexcept {
    const aiobridge_operation_options options{sizeof options, 0, sizeof(PyObject *), alignof(PyObject *),
                                              calling_site()};
    Operation *operation = Operation::create(options);
    if (!operation)
        return PyErr_NoMemory();
    const Ref future(operation_future(*operation, &object_converter));
    operation->release_consumer();
    const Ref promise(future ? promise_type->tp_alloc(promise_type, 0) : nullptr);
    if (!promise) {
        operation->release_promise();
        return nullptr;
    }
    reinterpret_cast<Promise *>(promise.get())->operation = operation;
    return new_pair(promise.get(), future.get()).release();
}

PyMethodDef methods[] = {
    {"set_result", as_method(set_result), METH_FASTCALL,
     "set_result($self, result=None, /)\n--\n\nCompletes the Future with this result. Any thread. Returns the Fate: "
     "`accepted`; `closed` if nobody\nwaits any more; `already_set` if it was completed before, which is also "
     "reported to the loop's exception handler."},
    {"set_exception", set_exception, METH_O,
     "set_exception($self, exception, /)\n--\n\nCompletes the Future with an exception, an instance or a class. Any "
     "thread. "
     "Returns the Fate, as set_result."},
    {"cancelled", cancelled, METH_NOARGS,
     "cancelled($self)\n--\n\nTrue once nobody wants the result: the Future was cancelled or dropped. Any thread."},
    {"close_reason", close_reason, METH_NOARGS,
     "close_reason($self)\n--\n\nWhy a result would be refused, a CloseReason; `open` while it would be accepted. Any "
     "thread."},
    {"on_cancel", on_cancel, METH_O,
     "on_cancel($self, function, /)\n--\n\nHas function(reason) called when the operation is cancelled: once, soon if "
     "that "
     "has happened, never if it\ncompletes first. On aiobridge's hook thread, one hook after another; it may wait for "
     "the library's locks and\nthreads. Any thread. A function that holds this promise keeps it from breaking."},
    {"__reduce__", refuse_pickle, METH_NOARGS, nullptr},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyDoc_STRVAR(documentation,
             "The producer's end of a Future, for Python code on any thread. See make_promise.\n\n"
             "The first completion wins. When the last reference goes and there was none, awaiting the Future raises\n"
             "BrokenPromiseError, which names the place where the promise was made.");

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>(documentation)},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_repr, reinterpret_cast<void *>(repr)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge.Promise", sizeof(Promise), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                    slots};

PyMethodDef functions[] = {
    {"make_promise", make_promise, METH_NOARGS,
     "make_promise()\n--\n\nReturns a Promise and its Future. Any thread; the Future belongs to the loop that runs in "
     "this one, else\nto the first that awaits it."},
    {nullptr, nullptr, 0, nullptr},
};

} // namespace

int register_promise(PyObject *module) noexcept {
    promise_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return promise_type && PyModule_AddObjectRef(module, "Promise", reinterpret_cast<PyObject *>(promise_type)) == 0
               ? PyModule_AddFunctions(module, functions)
               : -1;
}

} // namespace aiobridge::core
