// ext/core/batches.cpp: many events at a time
#include "batches.h"

#include "channel.h"
#include "stream.h"

#include <cmath>

namespace aiobridge::core {
namespace {

PyTypeObject *batches_type;

// An async iterator beside the Stream's own; it keeps the Stream, which has one consumer at a time.
struct Batches {
    PyObject_HEAD
    Stream *stream;
    Request request;
};

Batches *as_batches(PyObject *object) noexcept { return reinterpret_cast<Batches *>(object); }

PyObject *make(PyObject *stream, Request request, const char *method, Py_ssize_t limit, double delay) noexcept {
    if (limit < 1) {
        PyErr_Format(PyExc_ValueError, "aiobridge.Stream.%s: max_items is %zd; it must be at least 1", method, limit);
        return nullptr;
    }
    if (!(delay >= 0) || std::isinf(delay)) {
        const Ref shown(PyFloat_FromDouble(delay));
        PyErr_Format(PyExc_ValueError,
                     "aiobridge.Stream.%s: max_delay is %S; it must be a number of seconds, at least 0", method,
                     shown.get());
        return nullptr;
    }
    // Longer than anybody waits, and far from what nanoseconds can hold.
    constexpr double longest = 1e9;
    request.limit = static_cast<std::size_t>(limit);
    request.delay = std::chrono::duration_cast<std::chrono::nanoseconds>(
        std::chrono::duration<double>(delay < longest ? delay : longest));
    Ref object = new_object(batches_type);
    if (!object)
        return nullptr;
    as_batches(object.get())->stream = as_stream(Ref::borrow(stream).release());
    as_batches(object.get())->request = request;
    return object.release();
}

PyObject *anext(PyObject *self) noexcept { return make_next(as_batches(self)->stream, as_batches(self)->request); }

PyObject *repr(PyObject *self) noexcept {
    const bool arrays = as_batches(self)->request.kind == Request::Kind::array;
    return formatted("<%s of %R>", arrays ? "arrays" : "batches", as_object(as_batches(self)->stream)).release();
}

int traverse(PyObject *self, visitproc visit, void *arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_batches(self)->stream);
    return 0;
}

int clear(PyObject *self) noexcept {
    Py_CLEAR(as_batches(self)->stream);
    return 0;
}

void dealloc(PyObject *self) noexcept {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_repr, reinterpret_cast<void *>(repr)},
    {Py_am_aiter, reinterpret_cast<void *>(PyObject_SelfIter)},
    {Py_am_anext, reinterpret_cast<void *>(anext)},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge._core.Batches", sizeof(Batches), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

char max_items[] = "max_items", max_delay[] = "max_delay";
char *parameters[] = {max_items, max_delay, nullptr};

// What is given may be a number by foreign code.
int parse(PyObject *args, PyObject *keywords, const char *format, Py_ssize_t &limit, double &delay) noexcept {
    return guarded([&] { return PyArg_ParseTupleAndKeywords(args, keywords, format, parameters, &limit, &delay); });
}

} // namespace

int register_batches(PyObject *module) noexcept {
    batches_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return batches_type ? PyModule_AddObjectRef(module, "Batches", reinterpret_cast<PyObject *>(batches_type)) : -1;
}

PyObject *stream_batches(PyObject *stream, PyObject *args, PyObject *keywords) noexcept {
    Py_ssize_t limit = 512;
    double delay = 0;
    if (!parse(args, keywords, "|nd:batches", limit, delay))
        return nullptr;
    return make(stream, {Request::Kind::batch}, "batches", limit, delay);
}

PyObject *stream_arrays(PyObject *self, PyObject *args, PyObject *keywords) noexcept {
    Py_ssize_t limit = 65536;
    double delay = 0;
    if (!parse(args, keywords, "|nd:arrays", limit, delay))
        return nullptr;
    // An empty array now: where the type has no dtype, that is said here and not at the first event.
    const auto make_array = as_stream(self)->converter->array;
    if (!make_array)
        return raise(PyExc_TypeError,
                     "aiobridge.Stream.arrays: numpy cannot hold the events of %R, because their native type is not "
                     "trivially copyable; use batches()",
                     self);
    void *data = nullptr;
    if (!guarded([&] { return Ref(make_array(0, &data)); }))
        return nullptr;
    return make(self, {Request::Kind::array}, "arrays", limit, delay);
}

} // namespace aiobridge::core
