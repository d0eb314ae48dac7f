// ext/core/collect.cpp: events out of the buffer and into Python
#include "collect.h"

#include "channel.h"
#include "room.h"
#include "stream.h"

#include <algorithm>
#include <cstring>

namespace aiobridge::core {
namespace {

// So many events are copied to an array under the lock before producers get it again.
constexpr std::size_t copied_at_once = 1024;

void count_run(Stream *stream, std::size_t events) noexcept {
    const Locked lock(as_object(stream));
    stream->run += events;
}

// Returns the one that waited before.
Ref swap_deferred(Stream *stream, Ref error) noexcept {
    const Locked lock(as_object(stream));
    return Ref(std::exchange(stream->deferred, error.release()));
}

bool has_lost(Stream *stream) noexcept {
    const Locked lock(as_object(stream));
    return stream->lost;
}

// What a converter has raised, as an iterator can raise it: a StopIteration of its own would be taken for a value, and
// a StopAsyncIteration for the end.
void check_error(Stream *stream) noexcept {
    if (!PyErr_Occurred())
        raise(PyExc_SystemError, "the converter of %R failed without an error", as_object(stream));
    else if (PyErr_ExceptionMatches(PyExc_StopIteration) || PyErr_ExceptionMatches(PyExc_StopAsyncIteration))
        set_exception(as_runtime_error(take_exception(), "a StopIteration or StopAsyncIteration cannot be raised by a "
                                                         "Stream, where it would be taken for a value or the end; it "
                                                         "is the cause of this error")
                          .get());
}

// The oldest event, converted.
PyObject *take_event(Stream *stream) noexcept {
    Channel &channel = *stream->channel;
    const aiobridge_type &type = channel.type();
    Room room(type);
    if (!room.get())
        return PyErr_NoMemory();
    if (!channel.take(room.get()))
        return nullptr;
    // Out of the buffer before foreign code runs: the converter may take from this stream, or close it.
    PyObject *object = guarded([&] { return stream->converter->value(room.get()); });
    if (!object)
        check_error(stream);
    destroy_payload(type, room.get());
    return object;
}

// A list of up to so many events. If a conversion fails in the middle, those before it are not lost: the error waits
// for the next step.
PyObject *take_batch(Stream *stream, std::size_t limit) noexcept {
    Ref events;
    for (std::size_t count = 0; count < limit; ++count) {
        const Ref event(take_event(stream));
        if (event) {
            if ((!events && !(events = new_list())) || PyList_Append(events.get(), event.get()) != 0)
                return nullptr;
            continue;
        }
        if (events && PyErr_Occurred())
            swap_deferred(stream, take_exception());
        break;
    }
    if (events)
        count_run(stream, static_cast<std::size_t>(PyList_GET_SIZE(events.get())));
    return events.release();
}

// A numpy array. It is made before the events are taken, since that can fail, and is cut if some were evicted since.
PyObject *take_array(Stream *stream, std::size_t limit) noexcept {
    Channel &channel = *stream->channel;
    const std::size_t wanted = std::min(limit, channel.size());
    if (!wanted)
        return nullptr;
    void *data = nullptr;
    Ref array(guarded([&] { return stream->converter->array(wanted, &data); }));
    if (!array) {
        check_error(stream);
        return nullptr;
    }
    std::size_t count = 0;
    while (count < wanted) {
        void *to = static_cast<unsigned char *>(data) + count * channel.type().size;
        const std::size_t taken = channel.take_many(to, std::min(wanted - count, copied_at_once));
        if (!taken)
            break;
        count += taken;
    }
    count_run(stream, count);
    if (count == wanted || !count)
        return count ? array.release() : nullptr;
    return PySequence_GetSlice(array.get(), 0, static_cast<Py_ssize_t>(count));
}

// The end: the error that it is made of, the first time, unless the consumer has left; then the plain end, for ever.
void raise_end(Stream *stream, const Request &request) noexcept {
    alignas(8) unsigned char error[Buffer::error_room];
    const aiobridge_type *type = nullptr;
    const auto &site = stream->channel->site();
    const char *file = site.file ? site.file : "?";
    switch (has_left(stream) ? Ending::plain : stream->channel->take_ending(error, type)) {
    case Ending::error:
        guarded([&] { return stream->converter->error(error), true; });
        destroy_payload(*type, error);
        check_error(stream);
        return;
    case Ending::overflow:
        raise(names.stream_overflow,
              "a stream made at %s:%u overflowed: %zu events waited and one more came; take them faster, or give the "
              "stream a larger capacity or another overflow policy",
              file, site.line, stream->channel->capacity());
        return;
    case Ending::broken:
        raise(
            names.broken_stream_error,
            "the last writer of a stream made at %s:%u went while an exception unwound its thread, without close() or "
            "fail(): events may be missing",
            file, site.line);
        return;
    case Ending::aborted:
        raise(names.broken_stream_error, "a stream made at %s:%u was aborted by its writer", file, site.line);
        return;
    case Ending::plain: break;
    }
    if (has_lost(stream) || stream->channel->reason() == AIOBRIDGE_LOOP_CLOSED)
        raise(names.closed_error, "the loop of %R was closed before its end was reached", as_object(stream));
    else if (request.kind == Request::Kind::get)
        raise(names.end_of_stream, "%R has ended", as_object(stream));
    else
        PyErr_SetNone(PyExc_StopAsyncIteration);
}

} // namespace

PyObject *collect(Stream *stream, const Request &request) noexcept {
    if (const Ref error = swap_deferred(stream, Ref())) {
        set_exception(error.get());
        return nullptr;
    }
    if (!has_left(stream)) {
        PyObject *object = nullptr;
        switch (request.kind) {
        case Request::Kind::event:
        case Request::Kind::get: object = take_event(stream); break;
        case Request::Kind::batch: object = take_batch(stream, request.limit); break;
        case Request::Kind::array: object = take_array(stream, request.limit); break;
        }
        if (object || PyErr_Occurred())
            return object;
    }
    if (has_left(stream) || stream->channel->ended())
        raise_end(stream, request);
    return nullptr;
}

} // namespace aiobridge::core
