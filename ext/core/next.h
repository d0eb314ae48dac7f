// ext/core/next.h: what `stream.__anext__()` returns
#pragma once

#include "python.h"

namespace aiobridge::core {

struct Stream;

/// An awaitable that is its own iterator: ready at once when an event is buffered. Not a future: what a task waits on
/// is the stream's wait, so that no result can be stored outside the ring and lost there when the task is cancelled.
struct Next {
    PyObject_HEAD
    Stream *stream; // owned; null once it is over
};

int register_next(PyObject *module) noexcept;

/// GIL. From a free list: an event that is buffered costs no allocation but its own object.
PyObject *make_next(Stream *) noexcept;

} // namespace aiobridge::core
