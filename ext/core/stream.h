// ext/core/stream.h: aiobridge.Stream, an async iterator over the events of a channel
#pragma once

#include "bridge.h"
#include "locked.h"
#include "next.h"
#include "python.h"

#include <aiobridge/c_api.h>

#include <chrono>

namespace aiobridge::core {

class Channel;
struct Future;

/// The consumer's end of a channel. One consumer at a time. A member of its bridge until it is closed. GIL; in a
/// free-threaded build the fields from `active` on are read and written under Locked, but for the thread that frees it.
struct Stream {
    PyObject_HEAD
    Channel *channel; // its consumer's end
    const aiobridge_converter *converter;
    Bridge *bridge; // owned
    Member member;
    Next *active;       // the __anext__ that waits: cleared by its end, and never looked into
    Future *wait;       // what its task waits on; null while it only lets others run
    PyObject *timer;    // the loop's handle that ends the wait for a batch, or null
    PyObject *deferred; // an exception for the next step: it came in the middle of a batch
    PyObject *weak_references;
    std::chrono::steady_clock::time_point run_started;
    std::size_t run; // events taken since the consumer last let the loop turn
    bool lost;       // its loop was closed with events in the buffer
    bool left;       // closed by the consumer, or with its loop: what is buffered is not for it any more
};

inline Stream *as_stream(PyObject *object) noexcept { return reinterpret_cast<Stream *>(object); }
inline PyObject *as_object(Stream *stream) noexcept { return reinterpret_cast<PyObject *>(stream); }
inline bool has_left(Stream *stream) noexcept {
    const Locked lock(as_object(stream));
    return stream->left;
}

int register_stream(PyObject *module) noexcept;

/// GIL. The Stream of a channel: a new reference. The ABI's stream_object.
PyObject *stream_object(Channel &, const aiobridge_converter *) noexcept;

/// GIL. Closes for the consumer, and wakes a task that waits for the next event: it sees the end. -1: as stream_wake.
int stream_leave(Stream *, aiobridge_reason) noexcept;

/// GIL, loop thread. Something is there. `direct`: as future_resolve. -1: an error that must pass.
int stream_wake(Stream *, bool direct) noexcept;

} // namespace aiobridge::core
