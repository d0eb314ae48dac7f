// ext/core/future_type.cpp: the Python type aiobridge.Future, which speaks asyncio's future protocol
//
// Not a subclass of asyncio.Future: a subclass costs more than either, because tasks take the slow path for it. What
// asyncio asks of a foreign future (await, the blocking handshake, callbacks with a context, cancel) is all here.
#include "future_type.h"

#include "future.h"
#include "future_attributes.h"
#include "future_callbacks.h"
#include "future_iterator.h"
#include "object.h"
#include "operation.h"
#include "site.h"
#include "wait_result.h"

#include <structmember.h>

#include <iterator>

namespace aiobridge::core {

PyTypeObject *future_type;

namespace {

PyObject *result(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) noexcept {
    Future *future = as_future(self);
    PyObject *timeout = nullptr;
    const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    if (count + named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "timeout") != 0))
        return raise(PyExc_TypeError, "result() takes one argument, timeout");
    if (count + named == 1)
        timeout = arguments[0];
    if (is_pending(future) && wait_for_result(future, timeout) != 0)
        return nullptr;
    if (is_pending(future))
        return raise(names.invalid_state_error,
                     "%R has no result yet, and would not get one by waiting here: await it in its loop", self);
    return future_outcome(future);
}

PyObject *exception(PyObject *self, PyObject *) noexcept {
    Future *future = as_future(self);
    switch (state_of(future)) {
    case FutureState::pending: return raise(names.invalid_state_error, "%R has no exception yet, and no result", self);
    case FutureState::cancelled: return future_outcome(future);
    case FutureState::finished: break;
    }
    take_flag(future, &Future::never_retrieved);
    Ref error = copy_of(future, &Future::exception);
    return error ? error.release() : Ref::borrow(Py_None).release();
}

PyObject *done(PyObject *self, PyObject *) noexcept { return PyBool_FromLong(!is_pending(as_future(self))); }

PyObject *cancelled(PyObject *self, PyObject *) noexcept {
    return PyBool_FromLong(state_of(as_future(self)) == FutureState::cancelled);
}

PyObject *cancel(PyObject *self, PyObject *arguments, PyObject *keywords) noexcept {
    static const char *names_[] = {"msg", nullptr};
    PyObject *message = nullptr;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:cancel", const_cast<char **>(names_), &message))
        return nullptr;
    if (!is_initialized(as_future(self)))
        return raise_no_loop(as_future(self));
    const bool did = future_cancel(as_future(self), message, AIOBRIDGE_CANCELLED);
    return PyErr_Occurred() ? nullptr : PyBool_FromLong(did);
}

PyObject *get_loop(PyObject *self, PyObject *) noexcept {
    Future *future = as_future(self);
    if (future_bind(future) != 0)
        return nullptr;
    Bridge *bridge = bridge_of(future);
    if (!bridge)
        return raise_no_loop(future);
    Ref loop = bridge->loop();
    return loop ? loop.release() : raise(names.closed_error, "the loop of %R is gone", self);
}

PyObject *make_cancelled_error(PyObject *self, PyObject *) noexcept { return future_cancelled_error(as_future(self)); }

PyObject *await(PyObject *self) noexcept { return make_future_iterator(as_future(self)); }

// asyncio's own words, which tell the result and the callbacks.
PyObject *asyncio_repr(PyObject *self) noexcept {
    const Ref module(guarded([] { return PyImport_ImportModule("asyncio.base_futures"); }));
    const Ref function(module ? PyObject_GetAttrString(module.get(), "_future_repr") : nullptr);
    return function ? guarded([&] { return PyObject_CallOneArg(function.get(), self); }) : nullptr;
}

PyObject *repr(PyObject *self) noexcept {
    Future *future = as_future(self);
    const FutureState now = state_of(future);
    const char *state = now == FutureState::pending           ? "pending"
                        : now == FutureState::cancelled       ? "cancelled"
                        : copy_of(future, &Future::exception) ? "failed"
                                                              : "finished";
    if (!future->operation)
        return asyncio_repr(self);
    const Ref made = short_text(future->operation->site()), loop = Bridge::loop_text(bridge_of(future));
    if (!made || !loop)
        return nullptr;
    const Ref kept = copy_of(future, &Future::source_traceback);
    PyObject *stack = kept.get();
    if (!stack || !PyList_Check(stack) || PyList_GET_SIZE(stack) == 0)
        return PyUnicode_FromFormat("<aiobridge.Future %s, made at %U, %U>", state, made.get(), loop.get());
    PyObject *frame = PyList_GET_ITEM(stack, PyList_GET_SIZE(stack) - 1);
    const Ref caller(PyObject_GetAttrString(frame, "filename")), line(PyObject_GetAttrString(frame, "lineno"));
    if (!caller || !line)
        return nullptr;
    return formatted("<aiobridge.Future %s, made at %U, %U, created at %S:%S>", state, made.get(), loop.get(),
                     caller.get(), line.get())
        .release();
}

constexpr PyObject *Future::*fields[] = {&Future::callback,        &Future::context,   &Future::more_callbacks,
                                         &Future::value,           &Future::exception, &Future::cancel_message,
                                         &Future::source_traceback};

// A result of Python's that was not delivered: not yet, or because the future was cancelled, or its loop closed,
// before. It may refer to the future.
PyObject *untaken_object(Future *future) noexcept {
    Operation *operation = future->operation;
    return operation && operation->is_ready() ? object_of(operation->payload_type(), operation->payload()) : nullptr;
}

int traverse(PyObject *self, visitproc visit, void *arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    for (const auto field : fields)
        Py_VISIT(as_future(self)->*field);
    PyObject *untaken = untaken_object(as_future(self));
    Py_VISIT(untaken);
    return 0;
}

int clear(PyObject *self) noexcept {
    Ref dropped[std::size(fields)];
    const Locked lock(self);
    for (std::size_t i = 0; i < std::size(fields); ++i)
        dropped[i] = Ref(std::exchange(as_future(self)->*fields[i], nullptr));
    return 0; // first the lock goes, then they
}

int clear_garbage(PyObject *self) noexcept {
    Future *future = as_future(self);
    bool converting = false; // on the loop's thread, without a GIL
    {
        const Locked lock(self);
        converting = std::exchange(future->resolving, true);
    }
    if (!converting && untaken_object(future))
        future->operation->destroy_payload();
    if (!converting)
        take_flag(future, &Future::resolving);
    return clear(self);
}

void finalize(PyObject *self) noexcept {
    Future *future = as_future(self);
    const Ref exception = copy_of(future, &Future::exception);
    if (!take_flag(future, &Future::never_retrieved) || !exception)
        return;
    const ErrorAside error;
    Bridge *bridge = bridge_of(future);
    const Ref loop = bridge ? bridge->loop() : Ref();
    if (!loop)
        return;
    const Ref name(Py_TYPE(self) == future_type ? PyUnicode_FromString("aiobridge.Future")
                                                : PyType_GetName(Py_TYPE(self)));
    const Ref message(name ? PyUnicode_FromFormat("%U exception was never retrieved", name.get()) : nullptr);
    const char *text = message ? PyUnicode_AsUTF8(message.get()) : nullptr;
    const Ref stack = copy_of(future, &Future::source_traceback);
    if (!text || call_exception_handler(loop.get(), text, exception.get(), self, stack.get()) != 0)
        tell_unraisable(self);
}

void dealloc(PyObject *self) noexcept {
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Future *future = as_future(self);
    if (future->bridge)
        future->bridge->unlink(future->member);
    // First, because what follows may run foreign code, which must not find us.
    if (future->operation)
        future->operation->future.clear();
    if (future->weak_references)
        clear_weak_references(self);
    // Nobody waits any more: a pending operation is abandoned, which reaches its hook on the hook thread.
    if (future->operation)
        future->operation->release_consumer();
    if (future->bridge)
        future->bridge->release();
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"result", as_method(result), METH_FASTCALL | METH_KEYWORDS,
     "result($self, timeout=None)\n--\n\nThe result; raises the operation's exception, or CancelledError if it was "
     "cancelled.\n\n"
     "On the loop's own thread it does not wait: InvalidStateError while pending. On any other thread it waits, "
     "without\n"
     "the GIL and interruptible by Ctrl-C, for at most `timeout` seconds: then TimeoutError."},
    {"exception", exception, METH_NOARGS, "exception($self)\n--\n\nThe exception, or None if there is a result."},
    {"done", done, METH_NOARGS,
     "done($self)\n--\n\nTrue if there is a result or an exception, or if it was cancelled."},
    {"cancelled", cancelled, METH_NOARGS, "cancelled($self)\n--\n\nTrue if it was cancelled."},
    {"cancel", as_method(cancel), METH_VARARGS | METH_KEYWORDS,
     "cancel($self, msg=None)\n--\n\nCancels the operation: awaiting raises CancelledError at once, and the native "
     "side is "
     "told through its\n"
     "on_cancel hook or stop token. False if it was done already. Loop thread."},
    {"get_loop", get_loop, METH_NOARGS, "get_loop($self)\n--\n\nThe loop that the future belongs to."},
    {"add_done_callback", as_method(add_done_callback), METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback($self, fn, /, *, context=None)\n--\n\nHas the loop call fn(future) when the future is done. "
     "Loop "
     "thread."},
    {"remove_done_callback", remove_done_callback, METH_O,
     "remove_done_callback($self, fn, /)\n--\n\nRemoves every instance of fn; returns how many there were. Loop "
     "thread."},
    {"_make_cancelled_error", make_cancelled_error, METH_NOARGS, nullptr},
    {"__reduce__", refuse_pickle, METH_NOARGS, nullptr},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Future, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyDoc_STRVAR(documentation,
             "The result of a native operation, later.\n\n"
             "An asyncio future: await it, or give it to gather, wait, wait_for, shield, TaskGroup, timeout.\n"
             "Made by native functions; it belongs to the loop that runs then, else to the first that awaits\n"
             "it. Dropping the last reference to one that nobody awaits cancels the operation.");

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>(documentation)},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_finalize, reinterpret_cast<void *>(finalize)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear_garbage)},
    {Py_tp_repr, reinterpret_cast<void *>(repr)},
    {Py_tp_iter, reinterpret_cast<void *>(await)},
    {Py_am_await, reinterpret_cast<void *>(await)},
    {Py_tp_methods, methods},
    {Py_tp_getset, future_attributes},
    {Py_tp_members, members},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge.Future", sizeof(Future), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

} // namespace

int register_future(PyObject *module) noexcept {
    future_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return future_type && PyModule_AddObjectRef(module, "Future", reinterpret_cast<PyObject *>(future_type)) == 0 ? 0
                                                                                                                  : -1;
}

} // namespace aiobridge::core
