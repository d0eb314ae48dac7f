// ext/core/next.h: what `stream.__anext__()`, `stream.get()` and the like return
#pragma once

#include "python.h"

#include <chrono>
#include <cstddef>

namespace aiobridge::core {

struct Stream;

/// What a consumer asks of a stream.
struct Request {
    enum class Kind : unsigned char {
        event, // one event; StopAsyncIteration at the end
        get,   // one event; EndOfStream at the end
        batch, // a list of up to `limit` events
        array, // a numpy array of up to `limit` events
    };
    Kind kind = Kind::event;
    std::size_t limit = 1;
    std::chrono::nanoseconds delay{0}; // from the first event on, how long to wait for more
};

/// An awaitable that is its own iterator: ready at once when an event is buffered. Not a future: what a task waits on
/// is the stream's wait, so that no result can be stored outside the buffer and lost there when the task is cancelled.
struct Next {
    PyObject_HEAD
    Stream *stream; // owned; null once it is over. Under Locked; the rest is for whoever steps
    Request request;
    std::chrono::steady_clock::time_point deadline; // of the delay; zero before the first event was seen
};

int register_next(PyObject *module) noexcept;

/// GIL. From a free list, in builds with a GIL: an event that is buffered costs no allocation but its own object.
PyObject *make_next(Stream *, const Request &) noexcept;

/// GIL, loop thread. One step: what was asked for, null with an error, or what is to be yielded to the task.
PySendResult step_next(Next *, Stream *, PyObject **out) noexcept;
/// GIL. The Next is over, or was dropped.
void forget_next(Stream *, Next *) noexcept;
/// GIL. True, with a Python error, while another one than `by` has the stream, or in a child process.
bool refuse_consumer(Stream *, Next *by) noexcept;

} // namespace aiobridge::core
