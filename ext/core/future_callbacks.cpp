// ext/core/future_callbacks.cpp: what is to be called when a future is done: add_done_callback and its kin
#include "future_callbacks.h"

#include "resume.h"

namespace aiobridge::core {

namespace {

// Under the lock nothing is made that takes part in garbage collection. A collection could run foreign code, which
// completes the future, so that what is added is never called, or adds and removes itself.

// Removes one instance, if there is one: 1, else 0; -1 with an error. What the future then holds no more is for the
// caller to drop, without the lock.
int remove_one(Future *future, PyObject *callback, Ref (&dropped)[3]) noexcept {
    const Locked lock(as_object(future));
    if (future->state != FutureState::pending)
        return 0; // they are being called
    PyObject *more = future->more_callbacks;
    const Py_ssize_t count = more ? PyList_GET_SIZE(more) : 0;
    const bool is_first = future->callback == callback;
    Py_ssize_t at = 0; // what goes from the list: the callback, or the one that becomes the first
    while (!is_first && at < count && PyTuple_GET_ITEM(PyList_GET_ITEM(more, at), 0) != callback)
        ++at;
    if (!is_first && at == count)
        return 0;
    if (at < count) {
        dropped[0] = Ref::borrow(PyList_GET_ITEM(more, at));
        if (PyList_SetSlice(more, at, at + 1, nullptr) != 0)
            return -1;
    }
    if (is_first) {
        PyObject *next = dropped[0].get();
        Ref first = next ? Ref::borrow(PyTuple_GET_ITEM(next, 0)) : Ref();
        Ref context = next ? Ref::borrow(PyTuple_GET_ITEM(next, 1)) : Ref();
        dropped[1] = Ref(std::exchange(future->callback, first.release()));
        dropped[2] = Ref(std::exchange(future->context, context.release()));
    }
    return 1;
}

enum class Added { yes, is_done, not_the_first, no_memory };

// `pair` and `list` are only needed, and may only be null, if it is the first.
Added add(Future *future, PyObject *callback, PyObject *context, const Ref &pair, Ref &list) noexcept {
    const Locked lock(as_object(future));
    if (future->state != FutureState::pending)
        return Added::is_done;
    if (!future->callback) {
        future->callback = Ref::borrow(callback).release();
        future->context = Ref::borrow(context).release();
    } else if (!pair) {
        return Added::not_the_first;
    } else {
        if (!future->more_callbacks)
            future->more_callbacks = list.release();
        if (PyList_Append(future->more_callbacks, pair.get()) != 0)
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
    Ref all = new_list(), callback, context, more;
    {
        const Locked lock(as_object(future));
        callback = Ref::borrow(future->callback);
        context = Ref::borrow(future->context);
        more = Ref::borrow(future->more_callbacks);
    }
    if (!all || !callback)
        return all;
    const Ref pair = new_pair(callback.get(), context.get());
    if (!pair || PyList_Append(all.get(), pair.get()) != 0 ||
        (more && PyList_SetSlice(all.get(), 1, 1, more.get()) != 0))
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
    if (!bridge_of(future))
        return raise_no_loop(future);
    const Ref context = named == 1 && arguments[1] != Py_None ? Ref::borrow(arguments[1]) : current_context();
    if (!context)
        return nullptr;
    Ref pair, list;
    Added added = add(future, arguments[0], context.get(), pair, list);
    if (added == Added::not_the_first) {
        pair = new_pair(arguments[0], context.get());
        list = new_list();
        if (!pair || !list)
            return nullptr;
        added = add(future, arguments[0], context.get(), pair, list);
    }
    if (added == Added::no_memory || (added == Added::is_done && call_soon(future, arguments[0], context.get()) != 0))
        return nullptr;
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
        const int equal = guarded([&] { return PyObject_RichCompareBool(callback, function, Py_EQ); });
        Ref dropped[3];
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
