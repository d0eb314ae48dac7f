// ext/core/resume.cpp: calls what waits for a future, directly where that is legal
#include "resume.h"

namespace aiobridge::core {
namespace {

// asyncio wakes a task by calling a builtin method bound to it. Called straight from the drain it costs a fifth of what
// a Handle and another turn of the loop cost, and leaves no gap in which a cancel could take the result away from a
// task that already has it. The shape is not documented: what does not have it goes through the loop, as in asyncio.
bool is_task_wakeup(PyObject *callback) noexcept {
    if (!PyCFunction_CheckExact(callback))
        return false;
    PyObject *self = PyCFunction_GET_SELF(callback);
    return self && PyObject_TypeCheck(self, reinterpret_cast<PyTypeObject *>(names.task_type));
}

enum class Resumed { yes, must_pass, not_entered };

Resumed resume(Future *future, PyObject *callback, PyObject *context) noexcept {
    if (PyContext_Enter(context) != 0) {
        PyErr_Clear(); // it is entered already, by a loop inside a task of the same context
        return Resumed::not_entered;
    }
    const Ref done(PyObject_CallOneArg(callback, reinterpret_cast<PyObject *>(future)));
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
    if (const Ref loop = future->bridge->loop())
        call_exception_handler(loop.get(), "a task could not be resumed", error.get(),
                               reinterpret_cast<PyObject *>(future));
    return Resumed::yes;
}

} // namespace

int call_soon(Future *future, PyObject *callback, PyObject *context) noexcept {
    const Ref loop = future->bridge ? future->bridge->loop() : Ref();
    if (!loop)
        return 0; // the loop is gone, and with it everything that waited
    PyObject *arguments[] = {loop.get(), callback, reinterpret_cast<PyObject *>(future), context};
    const auto schedule = [&] {
        return static_cast<bool>(Ref(PyObject_VectorcallMethod(names.call_soon, arguments, 3, names.context_keyword)));
    };
    if (schedule())
        return 0;
    // A closed loop drops the callback, as it drops all others. A signal handler's KeyboardInterrupt comes out of the
    // first Python function that is entered, hence before the callback was queued.
    Ref error = take_exception();
    if (!must_pass(error.get()))
        return 0;
    if (!schedule())
        PyErr_Clear();
    set_exception(error.get());
    return -1;
}

int run_callbacks(Future *future, bool direct) noexcept {
    // Detached first: what is called may add to the future, drop it, or wait for it again.
    const Ref callback(std::exchange(future->callback, nullptr)), context(std::exchange(future->context, nullptr));
    const Ref more(std::exchange(future->more_callbacks, nullptr));
    if (!callback)
        return 0;
    int result = 0;
    // Only if nothing waits in the loop's queue for this future: callbacks run in the order in which they were added.
    if (direct && !future->callbacks_by_loop && is_task_wakeup(callback.get())) {
        switch (resume(future, callback.get(), context.get())) {
        case Resumed::yes: break;
        case Resumed::must_pass: result = -1; break;
        case Resumed::not_entered: direct = false; break;
        }
    } else {
        direct = false;
    }
    Ref error;
    if (result != 0)
        error = take_exception();
    const auto through_loop = [&](PyObject *function, PyObject *its_context) {
        future->callbacks_by_loop = true;
        if (call_soon(future, function, its_context) != 0)
            error = take_exception();
    };
    if (!direct)
        through_loop(callback.get(), context.get());
    for (Py_ssize_t i = 0; more && i < PyList_GET_SIZE(more.get()); ++i) {
        PyObject *pair = PyList_GET_ITEM(more.get(), i);
        through_loop(PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    }
    if (!error)
        return 0;
    set_exception(error.get());
    return -1;
}

} // namespace aiobridge::core
