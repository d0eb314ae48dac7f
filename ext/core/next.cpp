// ext/core/next.cpp: what `stream.__anext__()`, `stream.get()` and the like return
#include "next.h"

#include "future_iterator.h"
#include "stream.h"

namespace aiobridge::core {
namespace {

PyTypeObject *next_type;

// Few are alive at a time: one for each consumer. GIL.
constexpr int free_limit = 32;
Next *free_list[free_limit];
int free_count = 0;

Next *as_next(PyObject *object) noexcept { return reinterpret_cast<Next *>(object); }

void finish(Next *next) noexcept {
    if (Stream *stream = std::exchange(next->stream, nullptr)) {
        forget_next(stream, next);
        Py_DECREF(reinterpret_cast<PyObject *>(stream));
    }
}

PySendResult send(PyObject *self, PyObject *, PyObject **out) noexcept {
    Next *next = as_next(self);
    if (!next->stream) {
        *out = nullptr;
        raise(PyExc_RuntimeError,
              "what __anext__() or get() of an aiobridge.Stream returned was awaited twice; call it again for the next "
              "event");
        return PYGEN_ERROR;
    }
    const PySendResult step = step_next(next, out);
    if (step != PYGEN_NEXT)
        finish(next);
    return step;
}

PyObject *iterate(PyObject *self) noexcept {
    PyObject *out;
    return send(self, Py_None, &out) == PYGEN_RETURN ? stop_with_value(out) : out;
}

int traverse(PyObject *self, visitproc visit, void *arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_next(self)->stream);
    return 0;
}

int clear(PyObject *self) noexcept {
    finish(as_next(self));
    return 0;
}

void dealloc(PyObject *self) noexcept {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    finish(as_next(self));
    if (free_count < free_limit)
        free_list[free_count++] = as_next(self);
    else
        type->tp_free(self);
    Py_DECREF(type);
}

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_iter, reinterpret_cast<void *>(PyObject_SelfIter)},
    {Py_am_await, reinterpret_cast<void *>(PyObject_SelfIter)},
    {Py_tp_iternext, reinterpret_cast<void *>(iterate)},
    {Py_am_send, reinterpret_cast<void *>(send)},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge._core.Next", sizeof(Next), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

} // namespace

int register_next(PyObject *module) noexcept {
    next_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return next_type ? 0 : -1;
}

PyObject *make_next(Stream *stream, const Request &request) noexcept {
    Next *next;
    if (free_count) {
        next = free_list[--free_count];
        PyObject_Init(reinterpret_cast<PyObject *>(next), next_type);
        PyObject_GC_Track(next);
    } else {
        next = as_next(next_type->tp_alloc(next_type, 0));
        if (!next)
            return nullptr;
    }
    next->stream = reinterpret_cast<Stream *>(Ref::borrow(reinterpret_cast<PyObject *>(stream)).release());
    next->request = request;
    next->deadline = {};
    return reinterpret_cast<PyObject *>(next);
}

} // namespace aiobridge::core
