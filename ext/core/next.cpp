// ext/core/next.cpp: what `stream.__anext__()`, `stream.get()` and the like return
#include "next.h"

#include "future_iterator.h"
#include "locked.h"
#include "stream.h"

namespace aiobridge::core {
namespace {

PyTypeObject *next_type;

// Few are alive at a time: one for each consumer. GIL; without one, Python's allocator keeps lists for each thread
// itself.
#if defined(Py_GIL_DISABLED)
Next *take_from_free_list() noexcept { return nullptr; }
bool put_on_free_list(Next *) noexcept { return false; }
#else
constexpr int free_limit = 32;
Next *free_list[free_limit];
int free_count = 0;

Next *take_from_free_list() noexcept { return free_count ? free_list[--free_count] : nullptr; }
bool put_on_free_list(Next *next) noexcept {
    if (free_count == free_limit)
        return false;
    free_list[free_count++] = next;
    return true;
}
#endif

Next *as_next(PyObject *object) noexcept { return reinterpret_cast<Next *>(object); }

void finish(Next *next) noexcept {
    Ref stream;
    {
        const Locked lock(reinterpret_cast<PyObject *>(next));
        stream = Ref(as_object(std::exchange(next->stream, nullptr)));
    }
    if (stream)
        forget_next(as_stream(stream.get()), next);
}

PySendResult send(PyObject *self, PyObject *, PyObject **out) noexcept {
    Next *next = as_next(self);
    Ref stream;
    {
        const Locked lock(self);
        stream = Ref::borrow(as_object(next->stream));
    }
    if (!stream) {
        *out = nullptr;
        raise(PyExc_RuntimeError,
              "what __anext__() or get() of an aiobridge.Stream returned was awaited twice; call it again for the next "
              "event");
        return PYGEN_ERROR;
    }
    const PySendResult step = step_next(next, as_stream(stream.get()), out);
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
    if (!put_on_free_list(as_next(self)))
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
    Next *next = take_from_free_list();
    if (next) {
        PyObject_Init(reinterpret_cast<PyObject *>(next), next_type);
        PyObject_GC_Track(next);
    } else {
        next = as_next(new_object(next_type).release());
        if (!next)
            return nullptr;
    }
    next->stream = as_stream(Ref::borrow(as_object(stream)).release());
    next->request = request;
    next->deadline = {};
    return reinterpret_cast<PyObject *>(next);
}

} // namespace aiobridge::core
