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
    Ref future = new_object(future_type);
    if (!future)
        return nullptr;
    init_future(as_future(future.get()), bridge);
    return as_future(future.release());
}

// The state has just become final: out of the bridge's list, callbacks called, our own reference dropped. The caller
// holds one.
int settle(Future *future, bool direct) noexcept {
    AIOBRIDGE_PAUSE("future.done");
    if (Bridge *bridge = bridge_of(future))
        bridge->unlink(future->member);
    if (future->operation)
        future->operation->mark_delivered();
    AIOBRIDGE_PAUSE("future.callbacks");
    const int result = run_callbacks(future, direct);
    if (take_flag(future, &Future::held)) {
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
    const ErrorAside error;
    // result() on another thread must not wait for ever.
    raise(names.closed_error,
          reason == AIOBRIDGE_INTERPRETER_EXIT
              ? "the interpreter exits, and the native operation was not completed before"
              : "the loop of this native operation was closed, or could not be called, before it completed");
    Ref closed = take_exception(), waiting[3];
    Runtime *runtime = nullptr;
    {
        const Locked lock(object);
        if (future->state != FutureState::pending)
            return;
        future->exception = closed.release();
        future->state = FutureState::finished;
        runtime = &future->bridge->runtime;
        if (!drop_now) {
            // On the notifier. What waits belongs to others, and so do its destructors.
            waiting[0] = Ref(std::exchange(future->callback, nullptr));
            waiting[1] = Ref(std::exchange(future->context, nullptr));
            waiting[2] = Ref(std::exchange(future->more_callbacks, nullptr));
        }
    }
    for (Ref &each : waiting)
        if (each)
            drop_later(*runtime, std::move(each));
    // A closed loop takes no callback; one that is open, and could not be called once, may take them now.
    if (settle(future, false) != 0)
        tell_unraisable(object);
}

} // namespace

void init_future(Future *future, Bridge *bridge) noexcept {
    future->member.object = as_object(future);
    future->member.loop_closed = on_loop_closed;
    if (!bridge)
        return;
    future->bridge = bridge->retained();
    if (!bridge->link(future->member))
        on_loop_closed(as_object(future), AIOBRIDGE_LOOP_CLOSED, true);
}

bool take_flag(Future *future, bool Future::*flag) noexcept {
    const Locked lock(as_object(future));
    return std::exchange(future->*flag, false);
}

Ref stack_in_debug_mode(const Bridge &bridge) noexcept {
    return bridge.debug.load(std::memory_order_relaxed)
               ? guarded([] { return Ref(PyObject_CallNoArgs(names.extract_stack)); })
               : Ref();
}

int future_bind(Future *future) noexcept {
    if (bridge_of(future) || !is_initialized(future))
        return 0;
    const BridgeRef bridge = Bridge::of_running_loop();
    if (!bridge)
        return PyErr_Occurred() ? -1 : 0;
    Ref stack = is_pending(future) ? stack_in_debug_mode(*bridge) : Ref();
    if (!stack && PyErr_Occurred())
        return -1;
    bool ready = false, closed = false;
    {
        const Locked lock(as_object(future));
        if (future->bridge) // foreign code ran meanwhile, and was faster
            return 0;
        future->bridge = bridge->retained();
        if (future->state != FutureState::pending)
            return 0;
        future->source_traceback = stack.release();
        AIOBRIDGE_PAUSE("future.bind");
        ready = !future->operation->bind(*bridge);
        AIOBRIDGE_PAUSE("future.bound");
        closed = !ready && !bridge->link(future->member);
    }
    if (closed)
        on_loop_closed(as_object(future), AIOBRIDGE_LOOP_CLOSED, true);
    return ready ? future_resolve(future, false) : 0; // we may be inside a task
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
    const Ref message = copy_of(future, &Future::cancel_message);
    return guarded([&] {
        return message ? PyObject_CallOneArg(names.cancelled_error, message.get())
                       : PyObject_CallNoArgs(names.cancelled_error);
    });
}

PyObject *future_outcome(Future *future) noexcept {
    if (state_of(future) == FutureState::cancelled) {
        if (const Ref error{future_cancelled_error(future)})
            set_exception(error.get());
        return nullptr;
    }
    Ref value = copy_of(future, &Future::value);
    const Ref exception = copy_of(future, &Future::exception);
    if (!exception)
        return value.release();
    take_flag(future, &Future::never_retrieved);
    // Each raise adds its frames; the next one begins where the first began.
    PyException_SetTraceback(exception.get(), value ? value.get() : Py_None);
    set_exception(exception.get());
    return nullptr;
}

PyObject *operation_future(Operation &operation, const aiobridge_converter *converter, bool scoped) noexcept {
    if (operation.runtime().forked())
        return raise(names.closed_error, "a native operation made before this process was forked cannot be used here");
    if (Ref made = operation.future.get())
        return made.release();
    if (operation.future.was_set())
        return raise(PyExc_RuntimeError, "the Future of a native operation was dropped; it cannot be made again");
    Future *future = new_future(nullptr);
    if (!future)
        return nullptr;
    Ref owner(as_object(future));
    if (operation.future.was_set())
        return operation_future(operation, converter, scoped); // foreign code ran meanwhile, and was faster
    operation.retain_consumer();
    future->operation = &operation;
    future->converter = converter;
    if (!operation.future.set(future)) { // another thread was faster
        future->operation = nullptr;
        operation.release_consumer();
        return operation_future(operation, converter, scoped);
    }
    if (scoped && operation.enter_scope() != 0)
        return nullptr;
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
    Ref traceback;
    if (exception) {
        exception = wrap_stop_iteration(std::move(exception));
        traceback = Ref(PyException_GetTraceback(exception.get()));
    }
    {
        const Locked lock(as_object(future));
        if (future->state != FutureState::pending)
            return 0;
        future->never_retrieved = static_cast<bool>(exception);
        future->value = exception ? traceback.release() : result.release();
        future->exception = exception.release();
        future->state = future->value || future->exception ? FutureState::finished : FutureState::cancelled;
    }
    return settle(future, direct);
}

int future_resolve(Future *future, bool direct) noexcept {
    AIOBRIDGE_PAUSE("future.resolve");
    {
        const Locked lock(as_object(future));
        if (future->state != FutureState::pending || future->resolving)
            return 0;
        future->resolving = true;
    }
    Ref result, exception;
    convert(future, result, exception);
    AIOBRIDGE_PAUSE("future.converted");
    take_flag(future, &Future::resolving);
    const Ref passing = exception && must_pass(exception.get()) ? Ref::borrow(exception.get()) : Ref();
    // In vain if the conversion ran foreign code, and that cancelled us.
    const int status = future_complete(future, std::move(result), std::move(exception), direct);
    if (!passing)
        return status;
    take_flag(future, &Future::never_retrieved);
    if (status == 0)
        set_exception(passing.get());
    return -1;
}

int future_finish_wait(Future *wait, bool direct) noexcept {
    return future_complete(wait, Ref::borrow(Py_None), Ref(), direct);
}

bool future_cancel(Future *future, PyObject *message, aiobridge_reason reason) noexcept {
    AIOBRIDGE_PAUSE("future.cancel");
    Ref kept = message && message != Py_None ? Ref::borrow(message) : Ref();
    {
        const Locked lock(as_object(future));
        future->never_retrieved = false;
        if (future->state != FutureState::pending)
            return false;
        future->state = FutureState::cancelled;
        kept = Ref(std::exchange(future->cancel_message, kept.release()));
    }
    AIOBRIDGE_PAUSE("future.cancelled");
    if (future->operation)
        future->operation->cancel(reason, false);
    // Through the loop, as asyncio: whoever cancels does not expect the cancelled task to run inside the call.
    settle(future, false);
    return true;
}

PySendResult future_step(Future *future, PyObject **out) noexcept {
    if (is_pending(future) && !bridge_of(future) && future_bind(future) != 0) {
        *out = nullptr;
        return PYGEN_ERROR;
    }
    if (!is_pending(future)) {
        *out = future_outcome(future);
        return *out ? PYGEN_RETURN : PYGEN_ERROR;
    }
    *out = nullptr;
    PyObject *self = as_object(future);
    if (future->operation && future->operation->runtime().forked()) {
        raise(names.closed_error, "%R was made before this process was forked; make it again here", self);
        return PYGEN_ERROR;
    }
    Bridge *bridge = bridge_of(future);
    if (!bridge) {
        raise_no_loop(future);
        return PYGEN_ERROR;
    }
    // Without a running loop the coroutine is iterated by hand, and whoever does it takes over what is yielded.
    PyObject *loop = running_loop();
    if (loop && !bridge->is_loop(loop)) {
        const Ref own = bridge->loop();
        raise(PyExc_RuntimeError,
              "%R belongs to the loop %R and is awaited in %R; await it where it was made, or go there with "
              "asyncio.run_coroutine_threadsafe",
              self, own ? own.get() : Py_None, loop);
        return PYGEN_ERROR;
    }
    set_blocking(future, true);
    *out = Ref::borrow(self).release();
    return PYGEN_NEXT;
}

} // namespace aiobridge::core
