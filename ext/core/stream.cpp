// ext/core/stream.cpp: aiobridge.Stream, an async iterator over the events of a channel
//
// An event stays in the ring until the very step in which the consumer gets it. A wake only says "look again". So a
// cancelled __anext__ loses nothing, however late the cancel comes.
#include "stream.h"

#include "channel.h"
#include "future.h"
#include "next.h"
#include "operation.h"

#include <structmember.h>

#include <cstring>

namespace aiobridge::core {
namespace {

// A consumer that always finds events would never let the loop turn: after so long it yields once.
constexpr std::chrono::milliseconds run_limit{1};
constexpr unsigned events_between_clock_reads = 16;

PyTypeObject *stream_type;

Stream *as_stream(PyObject *object) noexcept { return reinterpret_cast<Stream *>(object); }
PyObject *as_object(Stream *stream) noexcept { return reinterpret_cast<PyObject *>(stream); }

// Room for one event or error, on the stack if it is small.
class Room {
public:
    explicit Room(const aiobridge_type &type) noexcept {
        if (type.size <= sizeof small_ && type.align <= alignof(std::max_align_t))
            memory_ = small_;
        else
            memory_ = ::operator new(type.size, std::align_val_t(alignment_ = type.align), std::nothrow);
    }
    ~Room() {
        if (memory_ != small_)
            ::operator delete(memory_, std::align_val_t(alignment_));
    }
    Room(const Room &) = delete;
    Room &operator=(const Room &) = delete;
    void *get() noexcept { return memory_; }

private:
    alignas(std::max_align_t) unsigned char small_[256];
    void *memory_;
    std::size_t alignment_ = 1;
};

// The oldest event, converted. Null with an error: its conversion's; null without: there is none.
PyObject *take(Stream *stream) noexcept {
    Channel &channel = *stream->channel;
    const aiobridge_type &type = channel.type();
    Room room(type);
    if (!room.get())
        return PyErr_NoMemory();
    if (!channel.take(room.get()))
        return nullptr;
    // Out of the ring before foreign code runs: the converter may take from this stream, or close it.
    PyObject *object = guarded([&] { return stream->converter->value(room.get()); });
    if (!object && !PyErr_Occurred())
        raise(PyExc_SystemError, "the converter of %R failed without an error", as_object(stream));
    if (!(type.flags & AIOBRIDGE_TYPE_TRIVIAL))
        type.destroy(room.get());
    return object;
}

// The end: the error that fail() left, the first time, unless the consumer has left; then StopAsyncIteration, for ever.
void raise_end(Stream *stream) noexcept {
    alignas(8) unsigned char error[Channel::error_room];
    if (const auto *type = stream->left ? nullptr : stream->channel->take_error(error)) {
        guarded([&] { return stream->converter->error(error), true; });
        if (!(type->flags & AIOBRIDGE_TYPE_TRIVIAL))
            type->destroy(error);
        if (!PyErr_Occurred())
            raise(PyExc_SystemError, "the converter of %R failed without an error", as_object(stream));
        return;
    }
    if (stream->lost || stream->channel->reason() == AIOBRIDGE_LOOP_CLOSED)
        raise(names.closed_error, "the loop of %R was closed before its end was reached", as_object(stream));
    else
        PyErr_SetNone(PyExc_StopAsyncIteration);
}

// Closes for the consumer and wakes a task that waits for the next event: it sees the end.
int leave(Stream *stream, aiobridge_reason reason) noexcept {
    stream->left = true;
    Bridge::unlink(stream->member);
    stream->channel->leave(reason);
    // Not directly: whoever closes may be a task itself.
    return stream_wake(stream, false);
}

void on_loop_closed(PyObject *object, aiobridge_reason reason, bool) {
    Stream *stream = as_stream(object);
    stream->lost = stream->channel->size() > 0;
    stream->left = true;
    stream->channel->leave(reason);
}

// After the hooks: completes the operation that aclose() returned.
void hooks_are_done(void *operation, aiobridge_reason) {
    static const aiobridge_type unit{sizeof(aiobridge_type), AIOBRIDGE_TYPE_TRIVIAL, 1, 1, nullptr, nullptr, nullptr};
    char done = 1;
    static_cast<Operation *>(operation)->complete(&unit, &done);
}
void release_operation(void *operation) { static_cast<Operation *>(operation)->release_promise(); }

PyObject *none(void *) { return Ref::borrow(Py_None).release(); }
const aiobridge_converter none_converter{sizeof(aiobridge_converter), 0, none, nullptr};

// A Future that is done when every hook posted so far has returned: the hook thread runs them one after another.
PyObject *after_hooks(Stream *stream) noexcept {
    const aiobridge_operation_options options{sizeof options, 0, 1, 1, stream->channel->site()};
    Operation *operation = Operation::create(options);
    if (!operation)
        return PyErr_NoMemory();
    Ref future(operation_future(*operation, &none_converter));
    operation->release_consumer();
    Hook *hook = Hook::create({sizeof(aiobridge_hook), 0, hooks_are_done, release_operation, operation});
    if (!hook) {
        operation->release_promise();
        return PyErr_NoMemory();
    }
    HookSet::settle_late(operation->runtime(), hook, AIOBRIDGE_CONSUMER_CLOSED);
    return future.release();
}

// -- methods ---------------------------------------------------------------------------------------------------------

PyObject *aclose(PyObject *self, PyObject *) noexcept {
    Stream *stream = as_stream(self);
    if (leave(stream, AIOBRIDGE_CONSUMER_CLOSED) != 0)
        return nullptr;
    if (stream->channel->has_hooks() && !stream->channel->runtime().closed())
        return after_hooks(stream);
    return make_finished(Ref::borrow(Py_None).release());
}

PyObject *enter(PyObject *self, PyObject *) noexcept { return make_finished(Ref::borrow(self).release()); }
PyObject *leave_block(PyObject *self, PyObject *) noexcept { return aclose(self, nullptr); }
PyObject *anext(PyObject *self) noexcept { return make_next(as_stream(self)); }

PyObject *qsize(PyObject *self, PyObject *) noexcept {
    return PyLong_FromSize_t(as_stream(self)->left ? 0 : as_stream(self)->channel->size());
}

PyObject *get_dropped(PyObject *self, void *) noexcept {
    const Channel &channel = *as_stream(self)->channel;
    return PyLong_FromUnsignedLongLong(channel.evicted() + channel.refused());
}

PyObject *get_closed(PyObject *self, void *) noexcept {
    return PyBool_FromLong(as_stream(self)->channel->reason() != AIOBRIDGE_OPEN);
}

PyObject *repr(PyObject *self) noexcept {
    const Channel &channel = *as_stream(self)->channel;
    const auto &site = channel.site();
    const char *file = site.file ? site.file : "?", *slash = std::strrchr(file, '/');
    return PyUnicode_FromFormat("<aiobridge.Stream %s, %zu waiting, made at %s:%u>",
                                channel.reason() == AIOBRIDGE_OPEN ? "open" : "closed", channel.size(),
                                slash ? slash + 1 : file, site.line);
}

// -- life ------------------------------------------------------------------------------------------------------------

int traverse(PyObject *self, visitproc visit, void *arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_stream(self)->wait);
    return 0;
}

int clear(PyObject *self) noexcept {
    Py_CLEAR(as_stream(self)->wait);
    return 0;
}

void dealloc(PyObject *self) noexcept {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Stream *stream = as_stream(self);
    Bridge::unlink(stream->member);
    // First, because what follows may run foreign code, which must not find us.
    if (stream->channel)
        stream->channel->stream = nullptr;
    if (stream->weak_references)
        PyObject_ClearWeakRefs(self);
    clear(self);
    // Closed as abandoned, unless it is closed: that reaches the hook on the hook thread.
    if (stream->channel)
        stream->channel->release_consumer();
    if (stream->bridge)
        stream->bridge->release();
    type->tp_free(self);
    Py_DECREF(type);
}

PyMethodDef methods[] = {
    {"aclose", aclose, METH_NOARGS,
     "aclose()\n--\n\nCloses the stream, now, and returns a Future that is done when the native side's on_close hook "
     "has\n"
     "returned. What is buffered is dropped. Any number of times. Loop thread."},
    {"qsize", qsize, METH_NOARGS, "qsize()\n--\n\nThe number of events that wait."},
    {"__aenter__", enter, METH_NOARGS, nullptr},
    {"__aexit__", leave_block, METH_VARARGS, nullptr},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef attributes[] = {
    {"dropped", get_dropped, nullptr, "Events that the overflow policy refused or evicted so far.", nullptr},
    {"closed", get_closed, nullptr, "True once no more events are accepted; what is buffered can still be taken.",
     nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Stream, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyDoc_STRVAR(documentation, "Events from native threads: an async iterator and an async context manager.\n\n"
                            "One consumer at a time. An event that is buffered is taken without a turn of the loop; a\n"
                            "cancelled `__anext__` loses none. `break` leaves the stream open; leaving `async with`,\n"
                            "aclose() or dropping the last reference closes it, and tells the native side.");

PyType_Slot slots[] = {
    {Py_tp_doc, const_cast<char *>(documentation)},
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {Py_tp_clear, reinterpret_cast<void *>(clear)},
    {Py_tp_repr, reinterpret_cast<void *>(repr)},
    {Py_am_aiter, reinterpret_cast<void *>(PyObject_SelfIter)},
    {Py_am_anext, reinterpret_cast<void *>(anext)},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {Py_tp_members, members},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge.Stream", sizeof(Stream), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

// True while another __anext__ has the stream. A cancelled one has it no more, even if its task has not run since.
bool is_taken(Stream *stream, Next *by) noexcept {
    return stream->active && stream->active != by && !(stream->wait && stream->wait->state == FutureState::cancelled);
}

// After 1 ms of events without a pause.
bool should_yield(Stream *stream) noexcept {
    if (stream->run == 0)
        stream->run_started = std::chrono::steady_clock::now();
    return ++stream->run % events_between_clock_reads == 0 &&
           std::chrono::steady_clock::now() - stream->run_started >= run_limit;
}

} // namespace

int register_stream(PyObject *module) noexcept {
    stream_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return stream_type && PyModule_AddObjectRef(module, "Stream", reinterpret_cast<PyObject *>(stream_type)) == 0 ? 0
                                                                                                                  : -1;
}

PyObject *stream_object(Channel &channel, const aiobridge_converter *converter) noexcept {
    if (channel.runtime().forked())
        return raise(names.closed_error, "a native stream made before this process was forked cannot be used here");
    if (channel.stream)
        return Ref::borrow(as_object(channel.stream)).release();
    if (channel.had_stream)
        return raise(PyExc_RuntimeError, "the Stream of a native stream was dropped; it cannot be made again");
    Bridge *bridge = Bridge::of_running_loop();
    if (!bridge) {
        if (!PyErr_Occurred())
            raise(PyExc_RuntimeError,
                  "the stream made at %s:%u has no loop to belong to, because none runs in this thread; call the "
                  "function "
                  "that returns it from a coroutine",
                  channel.site().file ? channel.site().file : "?", channel.site().line);
        return nullptr;
    }
    Stream *stream = as_stream(stream_type->tp_alloc(stream_type, 0));
    if (!stream)
        return nullptr;
    if (channel.had_stream) {
        // Foreign code ran meanwhile, and was faster.
        Py_DECREF(as_object(stream));
        return stream_object(channel, converter);
    }
    channel.retain_consumer();
    channel.bind(*bridge);
    channel.stream = stream;
    channel.had_stream = true;
    bridge->retain();
    stream->channel = &channel;
    stream->converter = converter;
    stream->bridge = bridge;
    stream->member.object = as_object(stream);
    stream->member.loop_closed = on_loop_closed;
    bridge->link(stream->member);
    return as_object(stream);
}

int stream_wake(Stream *stream, bool direct) noexcept {
    return stream->wait ? future_finish_wait(stream->wait, direct) : 0;
}

void stream_forget(Stream *stream, Next *next) noexcept {
    if (stream->active != next)
        return;
    stream->active = nullptr;
    Ref(reinterpret_cast<PyObject *>(std::exchange(stream->wait, nullptr)));
}

PySendResult stream_step(Stream *stream, Next *next, PyObject **out) noexcept {
    *out = nullptr;
    if (is_taken(stream, next)) {
        raise(PyExc_RuntimeError,
              "%R is being iterated by another task; a stream has one consumer at a time, so have one task iterate it "
              "and "
              "pass the events on",
              as_object(stream));
        return PYGEN_ERROR;
    }
    if (stream->channel->runtime().forked()) {
        raise(names.closed_error, "%R was made before this process was forked; make it again here", as_object(stream));
        return PYGEN_ERROR;
    }
    stream->active = nullptr;
    const Ref waited(reinterpret_cast<PyObject *>(std::exchange(stream->wait, nullptr)));
    for (;;) {
        if (!stream->left) {
            if (should_yield(stream)) {
                // A bare yield: the task goes on in the loop's next turn.
                stream->run = 0;
                stream->active = next;
                *out = Ref::borrow(Py_None).release();
                return PYGEN_NEXT;
            }
            if ((*out = take(stream)))
                return PYGEN_RETURN;
            if (PyErr_Occurred())
                return PYGEN_ERROR;
        }
        if (stream->left || stream->channel->ended()) {
            raise_end(stream);
            return PYGEN_ERROR;
        }
        if (stream->channel->park())
            break;
    }
    stream->run = 0;
    PyObject *loop = running_loop();
    if (!loop || !stream->bridge->is_loop(loop)) {
        const Ref own = stream->bridge->loop();
        raise(PyExc_RuntimeError, "%R belongs to the loop %R and is iterated in %R; iterate it where it was made",
              as_object(stream), own ? own.get() : Py_None, loop ? loop : Py_None);
        return PYGEN_ERROR;
    }
    Future *wait = make_wait(*stream->bridge);
    if (!wait)
        return PYGEN_ERROR;
    wait->blocking = true;
    stream->active = next;
    stream->wait = wait;
    *out = Ref::borrow(reinterpret_cast<PyObject *>(wait)).release();
    return PYGEN_NEXT;
}

} // namespace aiobridge::core
