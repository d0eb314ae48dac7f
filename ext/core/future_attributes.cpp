// ext/core/future_attributes.cpp: the private names that asyncio, and those who look into its futures, read
#include "future_attributes.h"

#include "future.h"
#include "future_callbacks.h"

namespace aiobridge::core {
namespace {

PyObject *get_blocking(PyObject *self, void *) noexcept { return PyBool_FromLong(as_future(self)->blocking); }

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
    const int truth = PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    as_future(self)->blocking = truth;
    return 0;
}

PyObject *get_log_traceback(PyObject *self, void *) noexcept {
    return PyBool_FromLong(as_future(self)->never_retrieved);
}

int set_log_traceback(PyObject *self, PyObject *value, void *) noexcept {
    if (refuse_deletion(value, "_log_traceback") != 0)
        return -1;
    const int truth = PyObject_IsTrue(value);
    if (truth < 0)
        return -1;
    if (truth) {
        raise(PyExc_ValueError, "_log_traceback can only be set to False");
        return -1;
    }
    as_future(self)->never_retrieved = false;
    return 0;
}

PyObject *or_none(PyObject *object) noexcept { return Ref::borrow(object ? object : Py_None).release(); }

PyObject *get_result(PyObject *self, void *) noexcept {
    return or_none(as_future(self)->exception ? nullptr : as_future(self)->value);
}

PyObject *get_exception(PyObject *self, void *) noexcept { return or_none(as_future(self)->exception); }

PyObject *get_source_traceback(PyObject *self, void *) noexcept { return or_none(as_future(self)->source_traceback); }

PyObject *get_callbacks(PyObject *self, void *) noexcept {
    return as_future(self)->callback ? callbacks_of(as_future(self)).release() : or_none(nullptr);
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
PyObject *get_cancel_message(PyObject *self, void *) noexcept { return or_none(as_future(self)->cancel_message); }

int set_cancel_message(PyObject *self, PyObject *value, void *) noexcept {
    if (refuse_deletion(value, "_cancel_message") != 0)
        return -1;
    Ref message = value == Py_None ? Ref() : Ref::borrow(value);
    const Ref old(std::exchange(as_future(self)->cancel_message, message.release()));
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
