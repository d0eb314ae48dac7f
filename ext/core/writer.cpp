// ext/core/writer.cpp: aiobridge.Writer, with which Python code on any thread fills a Stream
#include "writer.h"

#include "channel.h"
#include "object.h"
#include "python_hook.h"
#include "site.h"
#include "stream.h"
#include "words.h"

#include <cmath>
#include <cstring>
#include <iterator>

namespace aiobridge::core {
namespace {

struct Writer {
    PyObject_HEAD
    Channel *channel; // its writer's end
};

PyTypeObject *writer_type;

Channel &channel_of(PyObject *self) noexcept { return *reinterpret_cast<Writer *>(self)->channel; }

PyObject *push(PyObject *self, PyObject *event) noexcept {
    PyObject *payload = Ref::borrow(event).release(), *evicted = nullptr;
    const aiobridge_fate fate = channel_of(self).push(&payload, &evicted);
    const Ref refused(fate > AIOBRIDGE_MERGED ? payload : nullptr), replaced(evicted);
    return Ref::borrow(fate_word(fate)).release();
}

PyObject *close(PyObject *self, PyObject *) noexcept {
    return PyBool_FromLong(channel_of(self).close(AIOBRIDGE_FINISHED));
}

PyObject *end(PyObject *self, PyObject *given, const char *function,
              bool (Channel::*how)(const aiobridge_type *, void *) noexcept) noexcept {
    Ref exception = to_exception(given, function);
    if (!exception)
        return nullptr;
    PyObject *payload = exception.get();
    const bool done = (channel_of(self).*how)(&object_error_type, &payload);
    if (done)
        exception.release();
    return PyBool_FromLong(done);
}

PyObject *fail(PyObject *self, PyObject *exception) noexcept {
    return end(self, exception, "Writer.fail()", &Channel::fail);
}

PyObject *abort(PyObject *self, PyObject *const *arguments, Py_ssize_t count) noexcept {
    if (count > 1)
        return raise(PyExc_TypeError, "Writer.abort() takes one exception, or none");
    if (count && arguments[0] != Py_None)
        return end(self, arguments[0], "Writer.abort()", &Channel::abort);
    return PyBool_FromLong(channel_of(self).abort(nullptr, nullptr));
}

PyObject *ready(PyObject *self, PyObject *) noexcept { return PyBool_FromLong(channel_of(self).ready()); }

PyObject *on_ready(PyObject *self, PyObject *function) noexcept {
    return install_python_hook(
        function, "Writer.on_ready",
        [](void *channel, const aiobridge_hook &hook) { return static_cast<Channel *>(channel)->on_ready(hook); },
        &channel_of(self));
}

PyObject *close_reason(PyObject *self, PyObject *) noexcept {
    return Ref::borrow(reason_word(channel_of(self).reason())).release();
}

PyObject *enter(PyObject *self, PyObject *) noexcept { return Ref::borrow(self).release(); }

PyObject *leave(PyObject *self, PyObject *const *arguments, Py_ssize_t count) noexcept {
    if (count == 3 && arguments[1] != Py_None)
        Ref(fail(self, arguments[1]));
    else
        Ref(close(self, nullptr));
    if (PyErr_Occurred())
        return nullptr;
    Py_RETURN_FALSE;
}

PyObject *repr(PyObject *self) noexcept {
    Channel &channel = channel_of(self);
    const Ref made = short_text(channel.site());
    return made ? PyUnicode_FromFormat("<aiobridge.Writer %U, %zu waiting, made at %U>", reason_word(channel.reason()),
                                       channel.size(), made.get())
                : nullptr;
}

void dealloc(PyObject *self) noexcept {
    PyTypeObject *type = Py_TYPE(self);
    if (Channel *channel = reinterpret_cast<Writer *>(self)->channel)
        channel->release_writer(false);
    type->tp_free(self);
    Py_DECREF(type);
}

// `conflate` of Python objects: the event that waits is replaced by the younger one. (A function of the user's cannot
// be called here, under the stream's lock.)
void replace(void (*)(), void *into, void *from) {
    std::swap(*static_cast<PyObject **>(into), *static_cast<PyObject **>(from));
}

// In the order of the ABI's codes.
constexpr const char *policies[] = {"refuse", "drop_oldest", "drop_newest", "block", "conflate", "error", "unbounded"};

bool find_policy(const char *name, aiobridge_overflow &policy) noexcept {
    for (policy = 0; policy < std::size(policies); ++policy)
        if (std::strcmp(policies[policy], name) == 0)
            return true;
    raise(PyExc_ValueError,
          "make_stream: overflow is '%s'; it is one of 'refuse', 'drop_oldest', 'drop_newest', 'block', 'conflate', "
          "'error', 'unbounded'",
          name);
    return false;
}

bool read_timeout(PyObject *given, std::uint64_t &nanoseconds) noexcept {
    nanoseconds = UINT64_MAX;
    if (given == Py_None)
        return true;
    const double seconds = guarded([&] { return PyFloat_AsDouble(given); });
    if (seconds == -1.0 && PyErr_Occurred())
        return false;
    if (std::isnan(seconds) || seconds < 0) {
        raise(PyExc_ValueError, "make_stream: timeout is %R; it is a number of seconds, or None for no limit", given);
        return false;
    }
    if (seconds < 1e9)
        nanoseconds = static_cast<std::uint64_t>(seconds * 1e9);
    return true;
}

Channel *make_channel(const aiobridge_stream_options &options, Py_ssize_t capacity) noexcept {
    Channel *channel = nullptr;
    switch (Channel::create(options, channel)) {
    case 0: return channel;
    case -2:
        raise(PyExc_ValueError, "make_stream: capacity is %zd; a stream holds at least 1 and at most 2**31 events",
              capacity);
        break;
    case -5:
        raise(PyExc_ValueError,
              "make_stream: the watermarks are %zd and %zd; the low one must be below the high one, and that at most "
              "the capacity",
              static_cast<Py_ssize_t>(options.low_watermark), static_cast<Py_ssize_t>(options.high_watermark));
        break;
    default: PyErr_NoMemory();
    }
    return nullptr;
}

PyObject *make_stream(PyObject *, PyObject *arguments, PyObject *keywords) noexcept {
    static const char *names_[] = {"capacity", "overflow", "timeout", "high_watermark", "low_watermark", nullptr};
    Py_ssize_t capacity = 1024, high = 0, low = 0;
    const char *overflow = "refuse";
    PyObject *timeout = Py_None;
    aiobridge_overflow policy = 0;
    std::uint64_t nanoseconds = 0;
    const auto parse = [&] {
        return PyArg_ParseTupleAndKeywords(arguments, keywords, "|ns$Onn:make_stream", const_cast<char **>(names_),
                                           &capacity, &overflow, &timeout, &high, &low);
    };
    if (!guarded(parse) || !find_policy(overflow, policy) || !read_timeout(timeout, nanoseconds))
        return nullptr;
    // A negative number becomes one that is too large.
    const aiobridge_stream_options options{sizeof options,
                                           policy,
                                           static_cast<std::uint64_t>(capacity),
                                           &object_type,
                                           calling_site(),
                                           nanoseconds,
                                           static_cast<std::uint64_t>(high),
                                           static_cast<std::uint64_t>(low),
                                           policy == AIOBRIDGE_CONFLATE ? replace : nullptr,
                                           nullptr};
    Channel *channel = make_channel(options, capacity);
    if (!channel)
        return nullptr;
    const Ref stream(stream_object(*channel, &object_converter));
    channel->release_consumer();
    const Ref writer(stream ? writer_type->tp_alloc(writer_type, 0) : nullptr);
    if (!writer) {
        channel->release_writer(false);
        return nullptr;
    }
    reinterpret_cast<Writer *>(writer.get())->channel = channel;
    return new_pair(writer.get(), stream.get()).release();
}

PyMethodDef methods[] = {
    {"push", push, METH_O,
     "push($self, event, /)\n--\n\nGives one event to the stream. Any thread. Returns its Fate, which depends on the "
     "overflow "
     "policy when\nas many wait as the stream holds. Only `block` waits for room, without the GIL; on the thread of "
     "the\nconsumer's loop it returns `would_deadlock`. Events of one thread arrive in the order of their pushes."},
    {"close", close, METH_NOARGS,
     "close($self)\n--\n\nEnds the stream after what is buffered. Any thread. False if it was closed before."},
    {"fail", fail, METH_O,
     "fail($self, exception, /)\n--\n\nAs close; after what is buffered, iterating raises the exception, once."},
    {"abort", as_method(abort), METH_FASTCALL,
     "abort($self, exception=None, /)\n--\n\nAs fail, but what is buffered is not delivered any more. Without an "
     "exception "
     "iterating raises BrokenStreamError."},
    {"ready", ready, METH_NOARGS,
     "ready($self)\n--\n\nFalse from the push that reaches the high watermark until the consumer has come down to the "
     "low "
     "one. Any thread."},
    {"on_ready", on_ready, METH_O,
     "on_ready($self, function, /)\n--\n\nHas function(reason) called once, as soon as the writer is ready (reason "
     "`open`) or "
     "the stream is closed.\nOn aiobridge's hook thread. Any thread."},
    {"close_reason", close_reason, METH_NOARGS,
     "close_reason($self)\n--\n\nWhy an event would be refused, a CloseReason; `open` while it may be accepted. Any "
     "thread."},
    {"__enter__", enter, METH_NOARGS, nullptr},
    {"__exit__", as_method(leave), METH_FASTCALL, nullptr},
    {"__reduce__", refuse_pickle, METH_NOARGS, nullptr},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyDoc_STRVAR(
    documentation,
    "The producer's end of a Stream, for Python code on any thread. See make_stream.\n\n"
    "When the last reference goes, the stream ends after what is buffered. As a context manager it closes the\n"
    "stream at the end of the block, or fails it with the block's exception.");

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>(documentation)},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_repr, reinterpret_cast<void *>(repr)},
    {Py_tp_methods, methods},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge.Writer", sizeof(Writer), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                    slots};

PyMethodDef functions[] = {
    {"make_stream", as_method(make_stream), METH_VARARGS | METH_KEYWORDS,
     "make_stream(capacity=1024, overflow='refuse', *, timeout=None, high_watermark=0, low_watermark=0)\n--\n\n"
     "Returns a Writer and its Stream, which belongs to the loop that runs here.\n\n"
     "`capacity`: events that wait, from 1. `overflow`: what becomes of one more: 'refuse', 'drop_oldest',\n"
     "'drop_newest', 'block' (for at most `timeout` seconds; None: no limit), 'conflate' (it replaces the newest one\n"
     "that waits), 'error' (the stream ends with StreamOverflow) or 'unbounded'. The watermarks are those of\n"
     "Writer.ready; 0: the capacity, and half of the high one. Raises ValueError for options that are none of these,\n"
     "and RuntimeError where no loop runs."},
    {nullptr, nullptr, 0, nullptr},
};

} // namespace

int register_writer(PyObject *module) noexcept {
    writer_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return writer_type && PyModule_AddObjectRef(module, "Writer", reinterpret_cast<PyObject *>(writer_type)) == 0
               ? PyModule_AddFunctions(module, functions)
               : -1;
}

} // namespace aiobridge::core
