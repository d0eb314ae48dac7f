// ext/core/future.cpp: a future's state: made, bound to a loop, done
#include "future.h"

#include "future_type.h"
#include "operation.h"
#include "outcome.h"
#include "pause.h"
#include "resume.h"

namespace aiobridge::core {
namespace {

Future *new_future(Bridge *bridge) noexcept {
    auto *future = as_future(future_type->tp_alloc(future_type, 0));
    if (!future)
        return nullptr;
    init_future(future, bridge);
    return future;
}

// The state has just become final: out of the bridge's list, callbacks called, our own reference dropped. The caller
// holds one.
int settle(Future *future, bool direct) noexcept {
    AIOBRIDGE_PAUSE("future.done");
    Bridge::unlink(future->member);
    if (future->operation)
        future->operation->mark_delivered();
    AIOBRIDGE_PAUSE("future.callbacks");
    const int result = run_callbacks(future, direct);
    if (std::exchange(future->held, false)) {
        Ref own(as_object(future));
        const ErrorAside error;
        own = Ref();
    }
    return result;
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

} // namespace

void init_future(Future *future, Bridge *bridge) noexcept {
    future->member.object = as_object(future);
    future->member.loop_closed = on_loop_closed;
    if (!bridge)
        return;
    bridge->retain();
    future->bridge = bridge;
    bridge->link(future->member);
}

Ref stack_in_debug_mode(const Bridge &bridge) noexcept {
    return bridge.debug ? guarded([] { return Ref(PyObject_CallNoArgs(names.extract_stack)); }) : Ref();
}

int future_bind(Future *future) noexcept {
    if (future->bridge || !is_initialized(future))
        return 0;
    Bridge *bridge = Bridge::of_running_loop();
    if (!bridge)
        return PyErr_Occurred() ? -1 : 0;
    bridge->retain();
    Ref stack = future->state == FutureState::pending ? stack_in_debug_mode(*bridge) : Ref();
    const bool failed = !stack && PyErr_Occurred();
    if (failed || future->bridge) { // foreign code ran meanwhile, and was faster
        bridge->release();
        return failed ? -1 : 0;
    }
    future->bridge = bridge;
    if (future->state != FutureState::pending)
        return 0;
    future->source_traceback = stack.release();
    AIOBRIDGE_PAUSE("future.bind");
    if (future->operation->bind(*bridge)) {
        AIOBRIDGE_PAUSE("future.bound");
        bridge->link(future->member);
        return 0;
    }
    return future_resolve(future, false); // we may be inside a task
}

PyObject *raise_no_loop(Future *future) noexcept {
    if (!is_initialized(future))
        return raise(PyExc_RuntimeError, "Future object is not initialized.");
    return raise(
        PyExc_RuntimeError,
        "%R belongs to no loop yet, and no loop runs in this thread; await it in a coroutine, or call result() "
        "on a thread without a loop",
        as_object(future));
}

PyObject *future_cancelled_error(Future *future) noexcept {
    PyObject *message = future->cancel_message;
    return message ? PyObject_CallOneArg(names.cancelled_error, message) : PyObject_CallNoArgs(names.cancelled_error);
}

PyObject *future_outcome(Future *future) noexcept {
    if (future->state == FutureState::cancelled) {
        if (const Ref error{future_cancelled_error(future)})
            set_exception(error.get());
        return nullptr;
    }
    if (future->exception) {
        future->never_retrieved = false;
        // Each raise adds its frames; the next one begins where the first began.
        PyException_SetTraceback(future->exception, future->value ? future->value : Py_None);
        set_exception(future->exception);
        return nullptr;
    }
    return Ref::borrow(future->value).release();
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
    return future_bind(future) == 0 ? owner.release() : nullptr;
}

Future *make_wait(Bridge &bridge) noexcept { return new_future(&bridge); }

PyObject *make_finished(PyObject *result) noexcept {
    Ref value(result), error;
    if (!value)
        error = take_exception();
    Future *future = new_future(nullptr);
    if (!future)
        return nullptr;
    future->state = FutureState::finished;
    future->value = value ? value.release() : PyException_GetTraceback(error.get());
    future->exception = error.release();
    return as_object(future);
}

int future_complete(Future *future, Ref result, Ref exception, bool direct) noexcept {
    if (exception) {
        exception = wrap_stop_iteration(std::move(exception));
        future->value = PyException_GetTraceback(exception.get());
        future->exception = exception.release();
        future->never_retrieved = true;
    } else {
        future->value = result.release();
    }
    future->state = future->value || future->exception ? FutureState::finished : FutureState::cancelled;
    return settle(future, direct);
}

int future_resolve(Future *future, bool direct) noexcept {
    const Ref alive = Ref::borrow(as_object(future));
    if (future->state != FutureState::pending || future->resolving)
        return 0;
    AIOBRIDGE_PAUSE("future.resolve");
    Ref result, exception;
    future->resolving = true;
    convert(future, result, exception);
    AIOBRIDGE_PAUSE("future.converted");
    future->resolving = false;
    if (future->state != FutureState::pending)
        return 0; // the conversion ran foreign code, and that cancelled us
    const Ref passing = exception && must_pass(exception.get()) ? Ref::borrow(exception.get()) : Ref();
    const int status = future_complete(future, std::move(result), std::move(exception), direct);
    if (!passing)
        return status;
    future->never_retrieved = false;
    if (status == 0)
        set_exception(passing.get());
    return -1;
}

int future_finish_wait(Future *wait, bool direct) noexcept {
    const Ref alive = Ref::borrow(as_object(wait));
    if (wait->state != FutureState::pending)
        return 0;
    return future_complete(wait, Ref::borrow(Py_None), Ref(), direct);
}

bool future_cancel(Future *future, PyObject *message, aiobridge_reason reason) noexcept {
    const Ref alive = Ref::borrow(as_object(future));
    future->never_retrieved = false;
    if (future->state != FutureState::pending)
        return false;
    AIOBRIDGE_PAUSE("future.cancel");
    if (future->operation)
        future->operation->cancel(reason, false);
    AIOBRIDGE_PAUSE("future.cancelled");
    future->state = FutureState::cancelled;
    const Ref old(std::exchange(future->cancel_message, nullptr));
    if (message && message != Py_None)
        future->cancel_message = Ref::borrow(message).release();
    // Through the loop, as asyncio: whoever cancels does not expect the cancelled task to run inside the call.
    settle(future, false);
    return true;
}

PySendResult future_step(Future *future, PyObject **out) noexcept {
    if (future->state == FutureState::pending && !future->bridge && future_bind(future) != 0) {
        *out = nullptr;
        return PYGEN_ERROR;
    }
    if (future->state != FutureState::pending) {
        *out = future_outcome(future);
        return *out ? PYGEN_RETURN : PYGEN_ERROR;
    }
    *out = nullptr;
    PyObject *self = as_object(future);
    if (future->operation && future->operation->runtime().forked()) {
        raise(names.closed_error, "%R was made before this process was forked; make it again here", self);
        return PYGEN_ERROR;
    }
    if (!future->bridge) {
        raise_no_loop(future);
        return PYGEN_ERROR;
    }
    // Without a running loop the coroutine is iterated by hand, and whoever does it takes over what is yielded.
    PyObject *loop = running_loop();
    if (loop && !future->bridge->is_loop(loop)) {
        const Ref own = future->bridge->loop();
        raise(PyExc_RuntimeError,
              "%R belongs to the loop %R and is awaited in %R; await it where it was made, or go there with "
              "asyncio.run_coroutine_threadsafe",
              self, own ? own.get() : Py_None, loop);
        return PYGEN_ERROR;
    }
    future->blocking = true;
    *out = Ref::borrow(self).release();
    return PYGEN_NEXT;
}

} // namespace aiobridge::core
