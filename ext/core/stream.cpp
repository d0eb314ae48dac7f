// ext/core/stream.cpp: aiobridge.Stream, an async iterator over the events of a channel
#include "stream.h"

#include "batches.h"
#include "channel.h"
#include "collect.h"
#include "counts.h"
#include "future.h"
#include "next.h"
#include "notice.h"
#include "object.h"
#include "pause.h"
#include "python_hook.h"
#include "site.h"

#include <structmember.h>

namespace aiobridge::core {
namespace {

PyTypeObject *stream_type;

void on_loop_closed(PyObject *object, aiobridge_reason reason, bool) {
    Stream *stream = as_stream(object);
    {
        const bool lost = stream->channel->size() > 0;
        const Locked lock(object);
        if (!stream->left) // else its consumer is gone, or we were told before, and what was lost may be dropped by now
            stream->lost = lost;
        stream->left = true;
    }
    stream->channel->leave(reason);
}

// A Future that is done when every hook posted so far has returned: the hook thread runs them one after another.
PyObject *after_hooks(Stream *stream) noexcept {
    Ref future;
    Operation *notice = make_notice(stream->channel->site(), future);
    if (!notice)
        return nullptr;
    Hook *hook =
        Hook::create({sizeof(aiobridge_hook), 0,
                      [](void *operation, aiobridge_reason) { give_notice(*static_cast<Operation *>(operation)); },
                      [](void *operation) { static_cast<Operation *>(operation)->release_promise(); }, notice});
    if (!hook) {
        notice->release_promise();
        return PyErr_NoMemory();
    }
    HookSet::settle_late(notice->runtime(), hook, AIOBRIDGE_CONSUMER_CLOSED);
    return future.release();
}

PyObject *aclose(PyObject *self, PyObject *) noexcept {
    Stream *stream = as_stream(self);
    if (stream_leave(stream, AIOBRIDGE_CONSUMER_CLOSED) != 0)
        return nullptr;
    Runtime &runtime = stream->channel->runtime();
    // Without a hook thread there is no hook; what is buffered then ends with the last handle.
    if (stream->channel->has_hooks() && runtime.hooks.is_started() && !runtime.closed())
        return after_hooks(stream);
    return make_finished(Ref::borrow(Py_None).release());
}

PyObject *enter(PyObject *self, PyObject *) noexcept { return make_finished(Ref::borrow(self).release()); }
PyObject *leave_block(PyObject *self, PyObject *) noexcept { return aclose(self, nullptr); }
PyObject *anext(PyObject *self) noexcept { return make_next(as_stream(self), {}); }

constexpr Request one_event{Request::Kind::get};

PyObject *get(PyObject *self, PyObject *) noexcept { return make_next(as_stream(self), one_event); }

PyObject *get_nowait(PyObject *self, PyObject *) noexcept {
    if (refuse_consumer(as_stream(self), nullptr))
        return nullptr;
    PyObject *event = collect(as_stream(self), one_event);
    if (!event && !PyErr_Occurred())
        raise(names.queue_empty, "no event of %R waits", self);
    return event;
}

PyObject *on_close(PyObject *self, PyObject *function) noexcept {
    return install_python_hook(
        function, "Stream.on_close",
        [](void *channel, const aiobridge_hook &hook) { return static_cast<Channel *>(channel)->on_close(hook); },
        as_stream(self)->channel);
}

PyObject *qsize(PyObject *self, PyObject *) noexcept { return PyLong_FromSize_t(as_stream(self)->channel->size()); }

PyObject *stats(PyObject *self, PyObject *) noexcept { return make_stream_stats(as_stream(self)->channel->counts()); }

PyObject *get_dropped(PyObject *self, void *) noexcept {
    const Counts counts = as_stream(self)->channel->counts();
    std::uint64_t dropped = counts.evicted;
    for (const auto fate : {AIOBRIDGE_FULL, AIOBRIDGE_DROPPED, AIOBRIDGE_TIMED_OUT})
        dropped += counts.refused[fate];
    return PyLong_FromUnsignedLongLong(dropped);
}

PyObject *get_closed(PyObject *self, void *) noexcept {
    return PyBool_FromLong(as_stream(self)->channel->reason() != AIOBRIDGE_OPEN);
}

PyObject *repr(PyObject *self) noexcept {
    Channel &channel = *as_stream(self)->channel;
    const Ref made = short_text(channel.site()), loop = Bridge::loop_text(as_stream(self)->bridge);
    if (!made || !loop)
        return nullptr;
    return PyUnicode_FromFormat("<aiobridge.Stream %s, %zu waiting, made at %U, %U>",
                                channel.reason() == AIOBRIDGE_OPEN ? "open" : "closed", channel.size(), made.get(),
                                loop.get());
}

int clear(PyObject *self) noexcept {
    Ref wait, timer, deferred;
    const Locked lock(self);
    wait = Ref(as_object(std::exchange(as_stream(self)->wait, nullptr)));
    timer = Ref(std::exchange(as_stream(self)->timer, nullptr));
    deferred = Ref(std::exchange(as_stream(self)->deferred, nullptr));
    return 0; // first the lock goes, then they
}

int traverse(PyObject *self, visitproc visit, void *arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_stream(self)->wait);
    Py_VISIT(as_stream(self)->timer);
    Py_VISIT(as_stream(self)->deferred);
    Channel *channel = as_stream(self)->channel;
    if (!channel || &channel->type() != &object_type || channel->runtime().forked())
        return 0;
    // Python objects that wait can refer to whoever would take them. The buffer's references are the consumer's.
    int status = 0;
    channel->for_each([&](void *event) {
        if (PyObject *object = *static_cast<PyObject **>(event); !status)
            status = visit(object, arg);
    });
    return status;
}

// A cycle through the buffer, which nobody else refers to: what waits goes, on the hook thread and then on a loop.
int clear_garbage(PyObject *self) noexcept {
    if (Channel *channel = as_stream(self)->channel; channel && &channel->type() == &object_type)
        channel->leave(AIOBRIDGE_ABANDONED);
    return clear(self);
}

void dealloc(PyObject *self) noexcept {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Stream *stream = as_stream(self);
    if (stream->bridge)
        stream->bridge->unlink(stream->member);
    // First, because what follows may run foreign code, which must not find us.
    if (stream->channel)
        stream->channel->stream.clear();
    if (stream->weak_references)
        clear_weak_references(self);
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
     "aclose($self)\n--\n\nCloses the stream, now, and returns a Future that is done when the native side's on_close "
     "hook "
     "has\n"
     "returned. What is buffered is dropped. Any number of times. Loop thread."},
    {"get", get, METH_NOARGS,
     "get($self)\n--\n\nReturns an awaitable of the next event. Raises EndOfStream after the last one. A cancelled get "
     "loses "
     "none."},
    {"get_nowait", get_nowait, METH_NOARGS,
     "get_nowait($self)\n--\n\nReturns the next event, if one waits. Raises asyncio.QueueEmpty if none does, and "
     "EndOfStream "
     "after the\nlast one. Loop thread."},
    {"batches", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_batches)),
     METH_VARARGS | METH_KEYWORDS,
     "batches($self, max_items=512, max_delay=0.0)\n--\n\nReturns an async iterator over lists of 1 to `max_items` "
     "events. It "
     "takes what waits; if that is less,\nit waits for more until `max_delay` seconds after it saw the first one. A "
     "cancelled `__anext__` loses none."},
    {"arrays", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_arrays)), METH_VARARGS | METH_KEYWORDS,
     "arrays($self, max_items=65536, max_delay=0.0)\n--\n\nAs batches, but each is a numpy array, structured if the "
     "events "
     "are "
     "structs, with no object made for an\nevent. Raises TypeError if numpy cannot hold the native type."},
    {"on_close", on_close, METH_O,
     "on_close($self, function, /)\n--\n\nHas function(reason) called once the stream is closed, by either side: once, "
     "soon "
     "if that has happened.\nOn aiobridge's hook thread, one hook after another; it may wait for the library's locks "
     "and threads.\n`aclose()` and leaving `async with` wait for it. Any thread."},
    {"qsize", qsize, METH_NOARGS, "qsize($self)\n--\n\nThe number of events that wait."},
    {"stats", stats, METH_NOARGS,
     "stats($self)\n--\n\nReturns the fates of the events so far, an aiobridge.StreamStats."},
    {"__aenter__", enter, METH_NOARGS, nullptr},
    {"__aexit__", leave_block, METH_VARARGS, nullptr},
    {"__reduce__", refuse_pickle, METH_NOARGS, nullptr},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyGetSetDef attributes[] = {
    {"dropped", get_dropped, nullptr, "Events that the overflow policy refused, timed out or evicted so far.", nullptr},
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
    {Py_tp_clear, reinterpret_cast<void *>(clear_garbage)},
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

} // namespace

int register_stream(PyObject *module) noexcept {
    stream_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    return stream_type && PyModule_AddObjectRef(module, "Stream", reinterpret_cast<PyObject *>(stream_type)) == 0 ? 0
                                                                                                                  : -1;
}

PyObject *stream_object(Channel &channel, const aiobridge_converter *converter) noexcept {
    if (channel.runtime().forked())
        return raise(names.closed_error, "a native stream made before this process was forked cannot be used here");
    if (Ref made = channel.stream.get())
        return made.release();
    if (channel.stream.was_set())
        return raise(PyExc_RuntimeError, "the Stream of a native stream was dropped; it cannot be made again");
    const BridgeRef bridge = Bridge::of_running_loop();
    if (!bridge) {
        if (!PyErr_Occurred())
            raise(PyExc_RuntimeError,
                  "the stream made at %s:%u has no loop to belong to, because none runs in this thread; call the "
                  "function "
                  "that returns it from a coroutine",
                  channel.site().file ? channel.site().file : "?", channel.site().line);
        return nullptr;
    }
    Ref owner = new_object(stream_type);
    if (!owner)
        return nullptr;
    Stream *stream = as_stream(owner.get());
    stream->converter = converter;
    stream->bridge = bridge->retained();
    stream->member.object = owner.get();
    stream->member.loop_closed = on_loop_closed;
    channel.retain_consumer();
    stream->channel = &channel;
    if (!channel.stream.set(stream)) { // foreign code ran meanwhile, or another thread, and was faster
        stream->channel = nullptr;
        channel.release_consumer();
        return stream_object(channel, converter);
    }
    channel.bind(*bridge);
    if (channel.enter_scope() != 0)
        return nullptr;
    if (!bridge->link(stream->member))
        on_loop_closed(owner.get(), AIOBRIDGE_LOOP_CLOSED, true);
    return owner.release();
}

int stream_leave(Stream *stream, aiobridge_reason reason) noexcept {
    AIOBRIDGE_PAUSE("stream.leave");
    {
        const Locked lock(as_object(stream));
        stream->left = true;
    }
    stream->bridge->unlink(stream->member);
    stream->channel->leave(reason);
    AIOBRIDGE_PAUSE("stream.left");
    // Not directly: whoever closes may be a task itself.
    return stream_wake(stream, false);
}

int stream_wake(Stream *stream, bool direct) noexcept {
    Ref wait;
    {
        const Locked lock(as_object(stream));
        wait = Ref::borrow(as_object(stream->wait));
    }
    return wait ? future_finish_wait(as_future(wait.get()), direct) : 0;
}

} // namespace aiobridge::core
