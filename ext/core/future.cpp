// ext/core/future.cpp: aiobridge.Future, which speaks asyncio's future protocol
//
// Not a subclass of asyncio.Future: a subclass costs more than either, because tasks take the slow path for it. What
// asyncio asks of a foreign future (await, the blocking handshake, callbacks with a context, cancel) is all here.
#include "future.h"

#include "future_iterator.h"
#include "operation.h"
#include "resume.h"

#include <structmember.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

namespace aiobridge::core {
namespace {

PyTypeObject *future_type;

Future *as_future(PyObject *object) noexcept { return reinterpret_cast<Future *>(object); }
PyObject *as_object(Future *future) noexcept { return reinterpret_cast<PyObject *>(future); }

void on_loop_closed(PyObject *object, aiobridge_reason reason, bool drop_now);

Future *new_future(Bridge *bridge) noexcept {
    auto *future = as_future(future_type->tp_alloc(future_type, 0));
    if (!future)
        return nullptr;
    future->member.object = as_object(future);
    future->member.loop_closed = on_loop_closed;
    if (bridge) {
        bridge->retain();
        future->bridge = bridge;
    }
    return future;
}

// The state has just become final: out of the bridge's list, callbacks called, our own reference dropped. The caller
// holds one.
int settle(Future *future, bool direct) noexcept {
    Bridge::unlink(future->member);
    if (future->operation)
        future->operation->mark_delivered();
    const int result = run_callbacks(future, direct);
    if (std::exchange(future->held, false)) {
        Ref own(as_object(future));
        const ErrorAside error;
        own = Ref();
    }
    return result;
}

// asyncio cannot throw StopIteration into a coroutine.
Ref wrap_stop_iteration(Ref exception) noexcept {
    if (!PyErr_GivenExceptionMatches(exception.get(), PyExc_StopIteration))
        return exception;
    Ref wrapped(PyObject_CallFunction(PyExc_RuntimeError, "s",
                                      "a native operation raised StopIteration, which a Future cannot deliver"));
    if (!wrapped)
        return take_exception();
    PyException_SetCause(wrapped.get(), Ref::borrow(exception.get()).release());
    PyException_SetContext(wrapped.get(), exception.release());
    return wrapped;
}

Ref broken_promise(const aiobridge_site &site) noexcept {
    raise(names.broken_promise_error,
          "the native side dropped its promise without a result; the promise was made at %s:%u (%s)",
          site.file ? site.file : "?", site.line, site.function ? site.function : "?");
    return take_exception();
}

// What the operation was completed with, as a result or an exception; both null: it was cancelled.
void convert(Future *future, Ref &result, Ref &exception) noexcept {
    Operation &operation = *future->operation;
    if (const auto *type = operation.payload_type()) {
        if (type->flags & AIOBRIDGE_TYPE_ERROR)
            guarded([&] { return future->converter->error(operation.payload()), true; });
        else
            result = guarded([&] { return Ref(future->converter->value(operation.payload())); });
        if (!result) {
            exception = take_exception();
            if (!exception) {
                raise(PyExc_SystemError, "the converter of %R failed without an error", as_object(future));
                exception = take_exception();
            }
        }
        operation.destroy_payload();
    } else if (operation.reason() == AIOBRIDGE_FAILED) {
        exception = broken_promise(operation.site());
    }
}

// The loop that runs here becomes the future's. 0: it has one, or none runs; -1 with an error.
int bind(Future *future) noexcept {
    if (future->bridge)
        return 0;
    Bridge *bridge = Bridge::of_running_loop();
    if (!bridge)
        return PyErr_Occurred() ? -1 : 0;
    if (future->bridge)
        return 0; // foreign code ran meanwhile, and was faster
    bridge->retain();
    future->bridge = bridge;
    if (future->state != FutureState::pending)
        return 0;
    if (future->operation->bind(*bridge)) {
        bridge->link(future->member);
        return 0;
    }
    return future_resolve(future, false); // we may be inside a task
}

PyObject *no_loop(Future *future) noexcept {
    return raise(
        PyExc_RuntimeError,
        "%R belongs to no loop yet, and no loop runs in this thread; await it in a coroutine, or call result() "
        "on a thread without a loop",
        as_object(future));
}

PyObject *cancelled_error(Future *future) noexcept {
    PyObject *message = future->cancel_message;
    return message ? PyObject_CallOneArg(names.cancelled_error, message) : PyObject_CallNoArgs(names.cancelled_error);
}

// The result of a future that is done: a new reference, or null with its error.
PyObject *outcome(Future *future) noexcept {
    if (future->state == FutureState::cancelled) {
        if (const Ref error{cancelled_error(future)})
            set_exception(error.get());
        return nullptr;
    }
    if (future->exception) {
        future->never_retrieved = false;
        set_exception(future->exception);
        return nullptr;
    }
    return Ref::borrow(future->result).release();
}

void on_loop_closed(PyObject *object, aiobridge_reason reason, bool drop_now) {
    Future *future = as_future(object);
    if (future->operation)
        future->operation->cancel(reason, false);
    if (future->state != FutureState::pending)
        return;
    const ErrorAside error;
    // result() on another thread must not wait for ever.
    raise(names.closed_error,
          reason == AIOBRIDGE_INTERPRETER_EXIT
              ? "the interpreter exits, and the native operation was not completed before"
              : "the loop of this native operation was closed, or could not be called, before it completed");
    future->exception = take_exception().release();
    future->state = FutureState::finished;
    if (!drop_now) {
        // On the notifier. What waits belongs to others, and so do its destructors.
        Runtime &runtime = future->bridge->runtime;
        for (PyObject **owned : {&future->callback, &future->context, &future->more_callbacks})
            if (*owned)
                drop_later(runtime, Ref(std::exchange(*owned, nullptr)));
    }
    // A closed loop takes no callback; one that is open, and could not be called once, may take them now.
    if (settle(future, false) != 0)
        PyErr_WriteUnraisable(object);
}

bool ask_loop(PyObject *loop, const char *question) noexcept {
    const Ref answer = guarded([&] { return Ref(PyObject_CallMethod(loop, question, nullptr)); });
    if (!answer)
        PyErr_Clear();
    return answer.get() == Py_True;
}

// True if another thread runs the loop: then its results will come without us. A loop without readers may have been
// closed unnoticed.
bool runs_elsewhere(Bridge &bridge) noexcept {
    const Ref loop = bridge.loop();
    if (!loop || ask_loop(loop.get(), "is_closed"))
        bridge.close(AIOBRIDGE_LOOP_CLOSED, true);
    return loop && running_loop() != loop.get() && ask_loop(loop.get(), "is_running");
}

// Waits for a future of another thread's loop, or of none. 0: done, or not to be waited for here; -1 with an error.
int wait_for_result(Future *future, PyObject *timeout) noexcept {
    using Clock = std::chrono::steady_clock;
    auto deadline = Clock::time_point::max();
    if (timeout && timeout != Py_None) {
        const double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1.0 && PyErr_Occurred())
            return -1;
        if (std::isnan(seconds)) {
            raise(PyExc_ValueError, "%R: timeout is not a number of seconds", as_object(future));
            return -1;
        }
        if (seconds < 1e9)
            deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                          std::chrono::duration<double>(std::max(seconds, 0.0)));
    }
    while (future->state == FutureState::pending && future->operation) {
        Operation &operation = *future->operation;
        if (operation.runtime().forked()) {
            raise(names.closed_error, "%R was made before this process was forked; make it again here",
                  as_object(future));
            return -1;
        }
        if (future->bridge ? !runs_elsewhere(*future->bridge) : running_loop() != nullptr)
            return 0;
        if (!future->bridge && operation.is_ready() && !future->resolving)
            return future_resolve(future, false);
        if (operation.runtime().closed() && !operation.is_ready()) {
            raise(names.closed_error, "%R cannot be completed any more, because the interpreter exits",
                  as_object(future));
            return -1;
        }
        const auto now = Clock::now();
        if (now >= deadline) {
            raise(PyExc_TimeoutError, "%R was not done in time", as_object(future));
            return -1;
        }
        // In slices, because a signal does not end a wait on a condition variable.
        const auto slice = std::min(deadline, now + std::chrono::milliseconds(50));
        guarded([&] {
            PyThreadState *state = PyEval_SaveThread();
            if (future->resolving)
                std::this_thread::sleep_for(std::chrono::milliseconds(1)); // another thread is converting it
            else
                operation.wait(slice);
            PyEval_RestoreThread(state);
            return true;
        });
        if (PyErr_CheckSignals() != 0)
            return -1;
    }
    return 0;
}

// -- methods ---------------------------------------------------------------------------------------------------------

PyObject *result(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) noexcept {
    Future *future = as_future(self);
    PyObject *timeout = nullptr;
    const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    if (count + named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "timeout") != 0))
        return raise(PyExc_TypeError, "result() takes one argument, timeout");
    if (count + named == 1)
        timeout = arguments[0];
    if (future->state == FutureState::pending && wait_for_result(future, timeout) != 0)
        return nullptr;
    if (future->state == FutureState::pending)
        return raise(names.invalid_state_error,
                     "%R has no result yet, and would not get one by waiting here: await it in its loop", self);
    return outcome(future);
}

PyObject *exception(PyObject *self, PyObject *) noexcept {
    Future *future = as_future(self);
    switch (future->state) {
    case FutureState::pending: return raise(names.invalid_state_error, "%R has no exception yet, and no result", self);
    case FutureState::cancelled: return outcome(future);
    case FutureState::finished: break;
    }
    future->never_retrieved = false;
    return Ref::borrow(future->exception ? future->exception : Py_None).release();
}

PyObject *done(PyObject *self, PyObject *) noexcept {
    return PyBool_FromLong(as_future(self)->state != FutureState::pending);
}

PyObject *cancelled(PyObject *self, PyObject *) noexcept {
    return PyBool_FromLong(as_future(self)->state == FutureState::cancelled);
}

PyObject *cancel(PyObject *self, PyObject *arguments, PyObject *keywords) noexcept {
    static const char *names_[] = {"msg", nullptr};
    PyObject *message = nullptr;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|O:cancel", const_cast<char **>(names_), &message))
        return nullptr;
    const bool did = future_cancel(as_future(self), message, AIOBRIDGE_CANCELLED);
    return PyErr_Occurred() ? nullptr : PyBool_FromLong(did);
}

PyObject *get_loop(PyObject *self, PyObject *) noexcept {
    Future *future = as_future(self);
    if (bind(future) != 0)
        return nullptr;
    if (!future->bridge)
        return no_loop(future);
    Ref loop = future->bridge->loop();
    return loop ? loop.release() : raise(names.closed_error, "the loop of %R is gone", self);
}

PyObject *add_done_callback(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) noexcept {
    Future *future = as_future(self);
    const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    if (count != 1 || named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "context") != 0))
        return raise(PyExc_TypeError, "add_done_callback() takes one function and, by name, a context");
    if (bind(future) != 0)
        return nullptr;
    if (!future->bridge)
        return no_loop(future);
    Ref context = named == 1 && arguments[1] != Py_None ? Ref::borrow(arguments[1]) : Ref(PyContext_CopyCurrent());
    if (!context)
        return nullptr;
    if (future->state != FutureState::pending) {
        if (call_soon(future, arguments[0], context.get()) != 0)
            return nullptr;
        Py_RETURN_NONE;
    }
    if (!future->callback) {
        future->callback = Ref::borrow(arguments[0]).release();
        future->context = context.release();
    } else {
        const Ref pair(PyTuple_Pack(2, arguments[0], context.get()));
        if (!pair || (!future->more_callbacks && !(future->more_callbacks = PyList_New(0))) ||
            PyList_Append(future->more_callbacks, pair.get()) != 0)
            return nullptr;
    }
    if (!future->held) {
        // Or a task that waits for us, and that nobody else holds, would be collected with us while the native side
        // works.
        future->held = true;
        Py_INCREF(self);
    }
    Py_RETURN_NONE;
}

// All callbacks, as a new list of (callback, context).
Ref callbacks_of(Future *future) noexcept {
    Ref all(PyList_New(0));
    if (!all || !future->callback)
        return all;
    const Ref pair(PyTuple_Pack(2, future->callback, future->context));
    if (!pair || PyList_Append(all.get(), pair.get()) != 0 ||
        (future->more_callbacks && PyList_SetSlice(all.get(), 1, 1, future->more_callbacks) != 0))
        return Ref();
    return all;
}

PyObject *remove_done_callback(PyObject *self, PyObject *function) noexcept {
    Future *future = as_future(self);
    Py_ssize_t removed = 0;
    // Comparing is foreign code, which may change the list under us: so one at a time, found again by identity.
    const Ref all = callbacks_of(future);
    if (!all)
        return nullptr;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(all.get()); ++i) {
        PyObject *callback = PyTuple_GET_ITEM(PyList_GET_ITEM(all.get(), i), 0);
        const int equal = PyObject_RichCompareBool(callback, function, Py_EQ);
        if (equal < 0)
            return nullptr;
        Ref now = equal ? callbacks_of(future) : Ref();
        Py_ssize_t at = 0;
        while (now && at < PyList_GET_SIZE(now.get()) &&
               PyTuple_GET_ITEM(PyList_GET_ITEM(now.get(), at), 0) != callback)
            ++at;
        if (!now || at == PyList_GET_SIZE(now.get()))
            continue;
        if (PyList_SetSlice(now.get(), at, at + 1, nullptr) != 0)
            return nullptr;
        ++removed;
        const Ref old[] = {Ref(std::exchange(future->callback, nullptr)), Ref(std::exchange(future->context, nullptr)),
                           Ref(std::exchange(future->more_callbacks, nullptr))};
        if (PyList_GET_SIZE(now.get()) == 0)
            continue;
        const Ref first = Ref::borrow(PyList_GET_ITEM(now.get(), 0));
        if (PyList_SetSlice(now.get(), 0, 1, nullptr) != 0)
            return nullptr;
        future->callback = Ref::borrow(PyTuple_GET_ITEM(first.get(), 0)).release();
        future->context = Ref::borrow(PyTuple_GET_ITEM(first.get(), 1)).release();
        future->more_callbacks = now.release();
    }
    // Nobody waits any more, so nothing is to be kept alive: if the last reference goes, the operation is abandoned.
    if (!future->callback && std::exchange(future->held, false))
        Py_DECREF(self); // the caller has a reference
    return PyLong_FromSsize_t(removed);
}

PyObject *make_cancelled_error(PyObject *self, PyObject *) noexcept { return cancelled_error(as_future(self)); }

PyObject *await(PyObject *self) noexcept { return make_future_iterator(as_future(self)); }

PyObject *get_blocking(PyObject *self, void *) noexcept { return PyBool_FromLong(as_future(self)->blocking); }

int set_blocking(PyObject *self, PyObject *value, void *) noexcept {
    const int truth = value ? PyObject_IsTrue(value) : 0;
    if (truth < 0)
        return -1;
    as_future(self)->blocking = truth;
    return 0;
}

PyObject *get_loop_attribute(PyObject *self, void *) noexcept {
    Future *future = as_future(self);
    Ref loop = future->bridge ? future->bridge->loop() : Ref();
    return loop ? loop.release() : Ref::borrow(Py_None).release();
}

const char *state_name(Future *future) noexcept {
    switch (future->state) {
    case FutureState::pending: return "PENDING";
    case FutureState::cancelled: return "CANCELLED";
    case FutureState::finished: break;
    }
    return "FINISHED";
}

// asyncio.gather reads it from cancelled children.
PyObject *get_cancel_message(PyObject *self, void *) noexcept {
    PyObject *message = as_future(self)->cancel_message;
    return Ref::borrow(message ? message : Py_None).release();
}

PyObject *get_state(PyObject *self, void *) noexcept { return PyUnicode_FromString(state_name(as_future(self))); }

PyObject *repr(PyObject *self) noexcept {
    Future *future = as_future(self);
    const char *state = future->state == FutureState::pending     ? "pending"
                        : future->state == FutureState::cancelled ? "cancelled"
                        : future->exception                       ? "failed"
                                                                  : "finished";
    if (!future->operation)
        return PyUnicode_FromFormat("<aiobridge.Future %s at %p>", state, self);
    const auto &site = future->operation->site();
    const char *file = site.file ? site.file : "?", *slash = std::strrchr(file, '/');
    return PyUnicode_FromFormat("<aiobridge.Future %s, made at %s:%u>", state, slash ? slash + 1 : file, site.line);
}

// -- life ------------------------------------------------------------------------------------------------------------

int traverse(PyObject *self, visitproc visit, void *arg) noexcept {
    Future *future = as_future(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(future->callback);
    Py_VISIT(future->context);
    Py_VISIT(future->more_callbacks);
    Py_VISIT(future->result);
    Py_VISIT(future->exception);
    Py_VISIT(future->cancel_message);
    return 0;
}

int clear(PyObject *self) noexcept {
    Future *future = as_future(self);
    Py_CLEAR(future->callback);
    Py_CLEAR(future->context);
    Py_CLEAR(future->more_callbacks);
    Py_CLEAR(future->result);
    Py_CLEAR(future->exception);
    Py_CLEAR(future->cancel_message);
    return 0;
}

void finalize(PyObject *self) noexcept {
    Future *future = as_future(self);
    if (!future->never_retrieved || !future->exception)
        return;
    const ErrorAside error;
    future->never_retrieved = false;
    const Ref loop = future->bridge ? future->bridge->loop() : Ref();
    if (loop && call_exception_handler(loop.get(), "aiobridge.Future exception was never retrieved", future->exception,
                                       self) != 0)
        PyErr_WriteUnraisable(self);
}

void dealloc(PyObject *self) noexcept {
    if (PyObject_CallFinalizerFromDealloc(self) < 0)
        return;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Future *future = as_future(self);
    Bridge::unlink(future->member);
    // First, because what follows may run foreign code, which must not find us.
    if (future->operation)
        future->operation->future = nullptr;
    if (future->weak_references)
        PyObject_ClearWeakRefs(self);
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
     "result(timeout=None)\n--\n\nThe result; raises the operation's exception, or CancelledError if it was "
     "cancelled.\n\n"
     "On the loop's own thread it does not wait: InvalidStateError while pending. On any other thread it waits, "
     "without\n"
     "the GIL and interruptible by Ctrl-C, for at most `timeout` seconds: then TimeoutError."},
    {"exception", exception, METH_NOARGS, "exception()\n--\n\nThe exception, or None if there is a result."},
    {"done", done, METH_NOARGS, "done()\n--\n\nTrue if there is a result or an exception, or if it was cancelled."},
    {"cancelled", cancelled, METH_NOARGS, "cancelled()\n--\n\nTrue if it was cancelled."},
    {"cancel", as_method(cancel), METH_VARARGS | METH_KEYWORDS,
     "cancel(msg=None)\n--\n\nCancels the operation: awaiting raises CancelledError at once, and the native side is "
     "told through its\n"
     "on_cancel hook or stop token. False if it was done already. Loop thread."},
    {"get_loop", get_loop, METH_NOARGS, "get_loop()\n--\n\nThe loop that the future belongs to."},
    {"add_done_callback", as_method(add_done_callback), METH_FASTCALL | METH_KEYWORDS,
     "add_done_callback(fn, /, *, context=None)\n--\n\nHas the loop call fn(future) when the future is done. Loop "
     "thread."},
    {"remove_done_callback", remove_done_callback, METH_O,
     "remove_done_callback(fn, /)\n--\n\nRemoves every instance of fn; returns how many there were. Loop thread."},
    {"_make_cancelled_error", make_cancelled_error, METH_NOARGS, nullptr},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef attributes[] = {
    {"_asyncio_future_blocking", get_blocking, set_blocking, nullptr, nullptr},
    {"_loop", get_loop_attribute, nullptr, nullptr, nullptr},
    {"_state", get_state, nullptr, nullptr, nullptr},
    {"_cancel_message", get_cancel_message, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
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
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_repr, reinterpret_cast<void *>(repr)},
    {Py_tp_iter, reinterpret_cast<void *>(await)},
    {Py_am_await, reinterpret_cast<void *>(await)},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
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

PyObject *operation_future(Operation &operation, const aiobridge_converter *converter, bool scoped) noexcept {
    if (operation.runtime().forked())
        return raise(names.closed_error, "a native operation made before this process was forked cannot be used here");
    if (operation.future)
        return Ref::borrow(as_object(operation.future)).release();
    if (operation.had_future)
        return raise(PyExc_RuntimeError, "the Future of a native operation was dropped; it cannot be made again");
    Future *future = new_future(nullptr);
    if (!future)
        return nullptr;
    Ref owner(as_object(future));
    if (operation.had_future)
        return operation_future(operation, converter, scoped); // foreign code ran meanwhile, and was faster
    if (scoped && operation.enter_scope() != 0)
        return nullptr;
    operation.retain_consumer();
    future->operation = &operation;
    future->converter = converter;
    operation.future = future;
    operation.had_future = true;
    return bind(future) == 0 ? owner.release() : nullptr;
}

Future *make_wait(Bridge &bridge) noexcept {
    Future *wait = new_future(&bridge);
    if (wait)
        bridge.link(wait->member);
    return wait;
}

PyObject *make_finished(PyObject *result) noexcept {
    Ref value(result), error;
    if (!value)
        error = take_exception();
    Future *future = new_future(nullptr);
    if (!future)
        return nullptr;
    future->state = FutureState::finished;
    future->result = value.release();
    future->exception = error.release();
    return as_object(future);
}

int future_resolve(Future *future, bool direct) noexcept {
    const Ref alive = Ref::borrow(as_object(future));
    if (future->state != FutureState::pending || future->resolving)
        return 0;
    Ref result, exception;
    future->resolving = true;
    convert(future, result, exception);
    future->resolving = false;
    if (future->state != FutureState::pending)
        return 0; // the conversion ran foreign code, and that cancelled us
    const Ref passing = exception && must_pass(exception.get()) ? Ref::borrow(exception.get()) : Ref();
    if (exception) {
        future->exception = wrap_stop_iteration(std::move(exception)).release();
        future->never_retrieved = !passing;
    } else {
        future->result = result.release();
    }
    future->state = future->result || future->exception ? FutureState::finished : FutureState::cancelled;
    const int status = settle(future, direct);
    if (status == 0 && passing) {
        set_exception(passing.get());
        return -1;
    }
    return status;
}

int future_finish_wait(Future *wait, bool direct) noexcept {
    const Ref alive = Ref::borrow(as_object(wait));
    if (wait->state != FutureState::pending)
        return 0;
    wait->result = Ref::borrow(Py_None).release();
    wait->state = FutureState::finished;
    return settle(wait, direct);
}

bool future_cancel(Future *future, PyObject *message, aiobridge_reason reason) noexcept {
    const Ref alive = Ref::borrow(as_object(future));
    future->never_retrieved = false;
    if (future->state != FutureState::pending)
        return false;
    if (future->operation)
        future->operation->cancel(reason, false);
    future->state = FutureState::cancelled;
    if (message && message != Py_None)
        future->cancel_message = Ref::borrow(message).release();
    // Through the loop, as asyncio: whoever cancels does not expect the cancelled task to run inside the call.
    settle(future, false);
    return true;
}

PySendResult future_step(Future *future, PyObject **out) noexcept {
    if (future->state == FutureState::pending && !future->bridge && bind(future) != 0) {
        *out = nullptr;
        return PYGEN_ERROR;
    }
    if (future->state != FutureState::pending) {
        *out = outcome(future);
        return *out ? PYGEN_RETURN : PYGEN_ERROR;
    }
    *out = nullptr;
    PyObject *self = as_object(future);
    if (future->operation && future->operation->runtime().forked()) {
        raise(names.closed_error, "%R was made before this process was forked; make it again here", self);
        return PYGEN_ERROR;
    }
    if (!future->bridge) {
        no_loop(future);
        return PYGEN_ERROR;
    }
    PyObject *loop = running_loop();
    if (!loop || !future->bridge->is_loop(loop)) {
        const Ref own = future->bridge->loop();
        raise(PyExc_RuntimeError,
              "%R belongs to the loop %R and is awaited in %R; await it where it was made, or go there with "
              "asyncio.run_coroutine_threadsafe",
              self, own ? own.get() : Py_None, loop ? loop : Py_None);
        return PYGEN_ERROR;
    }
    future->blocking = true;
    *out = Ref::borrow(self).release();
    return PYGEN_NEXT;
}

} // namespace aiobridge::core
