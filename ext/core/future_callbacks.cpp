// ext/core/future_callbacks.cpp: what is to be called when a future is done: add_done_callback and its kin
#include "future_callbacks.h"

#include "resume.h"

namespace aiobridge::core {

Ref callbacks_of(Future *future) noexcept {
    Ref all(PyList_New(0));
    if (!all || !future->callback)
        return all;
    // Making the pair can start a garbage collection, and so complete the future.
    const Ref callback = Ref::borrow(future->callback), context = Ref::borrow(future->context);
    const Ref pair(PyTuple_Pack(2, callback.get(), context.get()));
    if (!pair || PyList_Append(all.get(), pair.get()) != 0 ||
        (future->more_callbacks && PyList_SetSlice(all.get(), 1, 1, future->more_callbacks) != 0))
        return Ref();
    return all;
}

PyObject *add_done_callback(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) noexcept {
    Future *future = as_future(self);
    const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    if (count != 1 || named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "context") != 0))
        return raise(PyExc_TypeError, "add_done_callback() takes one function and, by name, a context");
    if (future_bind(future) != 0)
        return nullptr;
    if (!future->bridge)
        return raise_no_loop(future);
    Ref context = named == 1 && arguments[1] != Py_None ? Ref::borrow(arguments[1]) : Ref(PyContext_CopyCurrent());
    if (!context)
        return nullptr;
    // Before the look at the state: making these can start a garbage collection, and with it foreign code that
    // completes the future, which would then never call what is added.
    const bool not_the_first = future->callback;
    const Ref pair(not_the_first ? PyTuple_Pack(2, arguments[0], context.get()) : nullptr);
    Ref list(not_the_first ? PyList_New(0) : nullptr);
    if (not_the_first && (!pair || !list))
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
        if (!future->more_callbacks)
            future->more_callbacks = list.release();
        if (PyList_Append(future->more_callbacks, pair.get()) != 0)
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

PyObject *remove_done_callback(PyObject *self, PyObject *function) noexcept {
    Future *future = as_future(self);
    if (!is_initialized(future))
        return raise_no_loop(future);
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
        if (!now || at == PyList_GET_SIZE(now.get()) || future->state != FutureState::pending)
            continue; // removed, or called, meanwhile
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

} // namespace aiobridge::core
