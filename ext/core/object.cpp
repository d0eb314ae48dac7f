// ext/core/object.cpp: how a Python object travels from a Python producer to its consumer
#include "object.h"

#include "bridge.h"
#include "runtime.h"

namespace aiobridge::core {
namespace {

PyObject *&object_in(void *payload) noexcept { return *static_cast<PyObject **>(payload); }

void move(void *to, void *from) { object_in(to) = object_in(from); }

void destroy(void *payload) {
    PyObject *object = object_in(payload); // null: the converter took it
    if (!object)
        return;
    Ref reference(object);
    if (!holds_gil())
        drop_later(Runtime::current(), std::move(reference));
}

PyObject *value(void *payload) { return std::exchange(object_in(payload), nullptr); }
void error(void *payload) { set_exception(object_in(payload)); }

} // namespace

const aiobridge_type object_type{sizeof(aiobridge_type), 0, sizeof(PyObject *), alignof(PyObject *), move, destroy};
const aiobridge_type object_error_type{
    sizeof(aiobridge_type), AIOBRIDGE_TYPE_ERROR, sizeof(PyObject *), alignof(PyObject *), move, destroy};
const aiobridge_converter object_converter{sizeof(aiobridge_converter), 0, value, error, nullptr};

PyObject *object_of(const aiobridge_type *type, void *payload) noexcept {
    return type == &object_type || type == &object_error_type ? object_in(payload) : nullptr;
}

Ref to_exception(PyObject *given, const char *function) noexcept {
    if (PyExceptionInstance_Check(given))
        return Ref::borrow(given);
    if (PyExceptionClass_Check(given)) {
        Ref made(guarded([&] { return PyObject_CallNoArgs(given); }));
        if (!made || PyExceptionInstance_Check(made.get()))
            return made;
    }
    raise(PyExc_TypeError, "%s takes an exception, not %R", function, given);
    return Ref();
}

} // namespace aiobridge::core
