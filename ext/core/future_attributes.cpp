// ext/core/future_attributes.cpp: the private names that asyncio, and those who look into its futures, read
#include "future_attributes.h"

#include "future.h"
#include "future_callbacks.h"

namespace aiobridge::core {
namespace {

bool flag(PyObject *self, bool Future::*which) noexcept {
    const Locked lock(self);
    return as_future(self)->*which;
}

PyObject *get_blocking(PyObject *self, void *) noexcept { return PyBool_FromLong(flag(self, &Future::blocking)); }

// -1 with AttributeError: a setter was called to delete.
int refuse_deletion(PyObject *value, const char *name) noexcept {
    if (value)
        return 0;
    raise(PyExc_AttributeError, "%s of an aiobridge.Future cannot be deleted", name);
    return -1;
}

int set_blocking(PyObject *self, PyObject *value, void *) noexcept {
    if (refuse_deletion(value, "_asyncio_future_blocking") != 0)
        return -1;
    const int truth = guarded([&] { return PyObject_IsTrue(value); });
    if (truth < 0)
        return -1;
    set_blocking(as_future(self), truth);
    return 0;
}

PyObject *get_log_traceback(PyObject *self, void *) noexcept {
    return PyBool_FromLong(flag(self, &Future::never_retrieved));
}

int set_log_traceback(PyObject *self, PyObject *value, void *) noexcept {
    if (refuse_deletion(value, "_log_traceback") != 0)
        return -1;
    const int truth = guarded([&] { return PyObject_IsTrue(value); });
    if (truth < 0)
        return -1;
    if (truth) {
        raise(PyExc_ValueError, "_log_traceback can only be set to False");
        return -1;
    }
    take_flag(as_future(self), &Future::never_retrieved);
    return 0;
}

PyObject *or_none(Ref object) noexcept { return object ? object.release() : Ref::borrow(Py_None).release(); }
PyObject *or_none(PyObject *self, PyObject *Future::*field) noexcept {
    return or_none(copy_of(as_future(self), field));
}

PyObject *get_result(PyObject *self, void *) noexcept {
    return or_none(copy_of(as_future(self), &Future::exception) ? Ref() : copy_of(as_future(self), &Future::value));
}

PyObject *get_exception(PyObject *self, void *) noexcept { return or_none(self, &Future::exception); }

PyObject *get_source_traceback(PyObject *self, void *) noexcept { return or_none(self, &Future::source_traceback); }

PyObject *get_callbacks(PyObject *self, void *) noexcept {
    Ref all = callbacks_of(as_future(self));
    return all && PyList_GET_SIZE(all.get()) == 0 ? or_none(Ref()) : all.release();
}

PyObject *get_loop_attribute(PyObject *self, void *) noexcept {
    Bridge *bridge = bridge_of(as_future(self));
    return or_none(bridge ? bridge->loop() : Ref());
}

const char *state_name(Future *future) noexcept {
    switch (state_of(future)) {
    case FutureState::pending: return "PENDING";
    case FutureState::cancelled: return "CANCELLED";
    case FutureState::finished: break;
    }
    return "FINISHED";
}

// asyncio.gather reads it from cancelled children.
PyObject *get_cancel_message(PyObject *self, void *) noexcept { return or_none(self, &Future::cancel_message); }

int set_cancel_message(PyObject *self, PyObject *value, void *) noexcept {
    if (refuse_deletion(value, "_cancel_message") != 0)
        return -1;
    Ref message = value == Py_None ? Ref() : Ref::borrow(value);
    const Locked lock(self);
    message = Ref(std::exchange(as_future(self)->cancel_message, message.release())); // dropped after the lock
    return 0;
}

PyObject *get_state(PyObject *self, void *) noexcept { return PyUnicode_FromString(state_name(as_future(self))); }

} // namespace

PyGetSetDef future_attributes[] = {
    {"_asyncio_future_blocking", get_blocking, set_blocking, nullptr, nullptr},
    {"_loop", get_loop_attribute, nullptr, nullptr, nullptr},
    {"_state", get_state, nullptr, nullptr, nullptr},
    {"_result", get_result, nullptr, nullptr, nullptr},
    {"_exception", get_exception, nullptr, nullptr, nullptr},
    {"_callbacks", get_callbacks, nullptr, nullptr, nullptr},
    {"_cancel_message", get_cancel_message, set_cancel_message, nullptr, nullptr},
    {"_log_traceback", get_log_traceback, set_log_traceback, nullptr, nullptr},
    {"_source_traceback", get_source_traceback, nullptr, nullptr, nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

} // namespace aiobridge::core
