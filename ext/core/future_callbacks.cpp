// ext/core/future_callbacks.cpp: what is to be called when a future is done: add_done_callback and its kin
#include "future_callbacks.h"

#include "resume.h"

namespace aiobridge::core {

namespace {

// Under the future's lock: new pairs, oldest first; null with an error.
Ref pairs_of(Future *future) noexcept {
    Ref all(PyList_New(0));
    if (!all || !future->callback)
        return all;
    const Ref pair(PyTuple_Pack(2, future->callback, future->context));
    if (!pair || PyList_Append(all.get(), pair.get()) != 0 ||
        (future->more_callbacks && PyList_SetSlice(all.get(), 1, 1, future->more_callbacks) != 0))
        return Ref();
    return all;
}

struct Callbacks {
    Ref first, context, more;
};

// Removes one instance, if there is one: 1, else 0; -1 with an error. What the future then holds no more is for the
// caller to drop, without the lock.
int remove_one(Future *future, PyObject *callback, Callbacks &dropped) noexcept {
    const Locked lock(as_object(future));
    Ref now = pairs_of(future);
    if (!now)
        return -1;
    Py_ssize_t at = 0;
    while (at < PyList_GET_SIZE(now.get()) && PyTuple_GET_ITEM(PyList_GET_ITEM(now.get(), at), 0) != callback)
        ++at;
    if (at == PyList_GET_SIZE(now.get()))
        return 0;
    if (PyList_SetSlice(now.get(), at, at + 1, nullptr) != 0)
        return -1;
    Ref first, context;
    if (PyList_GET_SIZE(now.get()) != 0) {
        PyObject *pair = PyList_GET_ITEM(now.get(), 0);
        first = Ref::borrow(PyTuple_GET_ITEM(pair, 0));
        context = Ref::borrow(PyTuple_GET_ITEM(pair, 1));
        if (PyList_SetSlice(now.get(), 0, 1, nullptr) != 0)
            return -1;
    } else {
        now = Ref();
    }
    dropped.first = Ref(std::exchange(future->callback, first.release()));
    dropped.context = Ref(std::exchange(future->context, context.release()));
    dropped.more = Ref(std::exchange(future->more_callbacks, now.release()));
    return 1;
}

enum class Added { yes, is_done, no_memory };

Added add(Future *future, PyObject *callback, PyObject *context) noexcept {
    const Locked lock(as_object(future));
    if (future->state != FutureState::pending)
        return Added::is_done;
    if (!future->callback) {
        future->callback = Ref::borrow(callback).release();
        future->context = Ref::borrow(context).release();
    } else {
        const Ref pair(PyTuple_Pack(2, callback, context));
        if (!pair || (!future->more_callbacks && !(future->more_callbacks = PyList_New(0))) ||
            PyList_Append(future->more_callbacks, pair.get()) != 0)
            return Added::no_memory;
    }
    if (!future->held) {
        // Or a task that waits for us, and that nobody else holds, would be collected with us while the native side
        // works.
        future->held = true;
        Py_INCREF(as_object(future));
    }
    return Added::yes;
}

} // namespace

Ref callbacks_of(Future *future) noexcept {
    const Locked lock(as_object(future));
    return pairs_of(future);
}

PyObject *add_done_callback(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) noexcept {
    Future *future = as_future(self);
    const Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    if (count != 1 || named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "context") != 0))
        return raise(PyExc_TypeError, "add_done_callback() takes one function and, by name, a context");
    if (future_bind(future) != 0)
        return nullptr;
    if (!bridge_of(future))
        return raise_no_loop(future);
    const Ref context =
        named == 1 && arguments[1] != Py_None ? Ref::borrow(arguments[1]) : Ref(PyContext_CopyCurrent());
    if (!context)
        return nullptr;
    switch (add(future, arguments[0], context.get())) {
    case Added::yes: break;
    case Added::no_memory: return nullptr;
    case Added::is_done:
        if (call_soon(future, arguments[0], context.get()) != 0)
            return nullptr;
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
        Callbacks dropped;
        const int gone = equal > 0 ? remove_one(future, callback, dropped) : equal;
        if (gone < 0)
            return nullptr;
        removed += gone;
    }
    // Nobody waits any more, so nothing is to be kept alive: if the last reference goes, the operation is abandoned.
    if (!copy_of(future, &Future::callback) && take_flag(future, &Future::held))
        Py_DECREF(self); // the caller has a reference
    return PyLong_FromSsize_t(removed);
}

} // namespace aiobridge::core
