// ext/core/resume.cpp: calls what waits for a future, directly where that is legal
#include "resume.h"

#include <cstring>

namespace aiobridge::core {
namespace {

// asyncio wakes a task by calling a builtin method bound to it. Called straight from the drain it costs a fifth of what
// a Handle and another turn of the loop cost, and leaves no gap in which a cancel could take the result away from a
// task that already has it. The shape is not documented: what does not have it goes through the loop, as in asyncio.
bool is_task_wakeup(PyObject *callback) noexcept {
    if (!PyCFunction_CheckExact(callback))
        return false;
    PyObject *self = PyCFunction_GET_SELF(callback);
    return self && PyObject_TypeCheck(self, reinterpret_cast<PyTypeObject *>(names.task_type)) &&
           std::strcmp(reinterpret_cast<PyCFunctionObject *>(callback)->m_ml->ml_name, "task_wakeup") == 0;
}

// What a task's wakeup is called with. It asks for the result, throws if that is an error, and else forgets it: the
// coroutine looks for itself. Asking a future of asyncio's own type costs it nothing, and another one a fifth of all
// that an awaited operation costs. Without a GIL a future that all loops share would be written to by several threads.
PyObject *argument_of_wakeup(Future *future) noexcept {
#if !defined(Py_GIL_DISABLED)
    if (names.done_future && future->state == FutureState::finished && !future->exception)
        return names.done_future;
#endif
    return as_object(future);
}

enum class Resumed { yes, must_pass, not_entered };

Resumed resume(Future *future, PyObject *callback, PyObject *context) noexcept {
    if (PyContext_Enter(context) != 0) {
        clear_error(); // it is entered already, by a loop inside a task of the same context
        return Resumed::not_entered;
    }
    const Ref done = guarded([&] { return Ref(PyObject_CallOneArg(callback, argument_of_wakeup(future))); });
    Ref error;
    if (!done)
        error = take_exception();
    PyContext_Exit(context);
    if (done)
        return Resumed::yes;
    if (must_pass(error.get())) {
        set_exception(error.get());
        return Resumed::must_pass;
    }
    // A task keeps its coroutine's errors to itself; this is one of the task's own.
    const Ref loop = bridge_of(future)->loop();
    return loop && call_exception_handler(loop.get(), "a task could not be resumed", error.get(),
                                          reinterpret_cast<PyObject *>(future)) != 0
               ? Resumed::must_pass
               : Resumed::yes;
}

} // namespace

int call_soon(Future *future, PyObject *callback, PyObject *context) noexcept {
    Bridge *bridge = bridge_of(future);
    const Ref loop = bridge ? bridge->loop() : Ref();
    if (!loop)
        return 0; // the loop is gone, and with it everything that waited
    PyObject *arguments[] = {loop.get(), callback, reinterpret_cast<PyObject *>(future), context};
    // A future may be cancelled, or its result claimed, on another thread.
    PyObject *method = bridge->runs_here() ? names.call_soon : names.call_soon_threadsafe;
    const auto schedule = [&] { return Ref(PyObject_VectorcallMethod(method, arguments, 3, names.context_keyword)); };
    const Py_ssize_t references = Py_REFCNT(callback);
    if (guarded(schedule))
        return 0;
    Ref error = take_exception();
    if (!must_pass(error.get())) {
        // A closed loop drops the callback, as it drops all others.
        const int closed = loop_says(loop.get(), names.is_closed);
        if (closed > 0)
            return 0;
        // A signal handler may have raised inside the question; whatever else it raised says less than the refusal.
        const Ref asking = closed < 0 ? take_exception() : Ref();
        set_exception(asking && must_pass(asking.get()) ? asking.get() : error.get());
        return -1;
    }
    // A signal handler has raised inside call_soon, before or after it queued the callback: twice would be as wrong as
    // not at all. Who has queued it refers to it; so do the frames in the traceback, which therefore goes.
    PyException_SetTraceback(error.get(), Py_None);
    if (Py_REFCNT(callback) <= references && !guarded(schedule))
        clear_error();
    set_exception(error.get());
    return -1;
}

int run_callbacks(Future *future, bool direct) noexcept {
    // Detached first: what is called may add to the future, drop it, or wait for it again.
    Ref callback, context, more;
    {
        const Locked lock(as_object(future));
        callback = Ref(std::exchange(future->callback, nullptr));
        context = Ref(std::exchange(future->context, nullptr));
        more = Ref(std::exchange(future->more_callbacks, nullptr));
    }
    if (!callback)
        return 0;
    Ref interrupt;
    const auto through_loop = [&](PyObject *function, PyObject *its_context) {
        if (call_soon(future, function, its_context) == 0)
            return;
        Ref error = take_exception();
        const Ref loop = bridge_of(future)->loop();
        if (must_pass(error.get()))
            interrupt = std::move(error);
        else if (loop && call_exception_handler(loop.get(), "a callback of a Future could not be scheduled",
                                                error.get(), reinterpret_cast<PyObject *>(future)) != 0)
            interrupt = take_exception();
    };
    // The first alone can be called directly: callbacks run in the order in which they were added, and none of this
    // future's waits in the loop's queue yet.
    auto resumed = Resumed::not_entered;
    if (direct && is_task_wakeup(callback.get()))
        resumed = resume(future, callback.get(), context.get());
    if (resumed == Resumed::must_pass)
        interrupt = take_exception();
    else if (resumed == Resumed::not_entered)
        through_loop(callback.get(), context.get());
    for (Py_ssize_t i = 0; more && i < PyList_GET_SIZE(more.get()); ++i) {
        PyObject *pair = PyList_GET_ITEM(more.get(), i);
        through_loop(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    }
    if (!interrupt)
        return 0;
    set_exception(interrupt.get());
    return -1;
}

} // namespace aiobridge::core
