// ext/core/future.h: the state behind aiobridge.Future
#pragma once

#include "bridge.h"
#include "locked.h"
#include "python.h"

#include <aiobridge/c_api.h>

namespace aiobridge::core {

class Operation;

enum class FutureState : unsigned char { pending, cancelled, finished };

/// One result. GIL; in a free-threaded build its fields are read and written under Locked, but for those that never
/// change, or are read by the thread that frees it. Either the Python side of an operation, or (with no operation) what
/// a task waits on for a stream. All zero: not initialised, which only a subclass can make. A member of its bridge
/// while it is pending.
struct Future {
    PyObject_HEAD
    Operation *operation; // its consumer's end; null for a stream's wait. Never changes, as the next
    const aiobridge_converter *converter;
    Bridge *bridge; // owned; null: made where no loop runs, and not awaited yet. Set once
    Member member;
    PyObject *callback, *context; // the first callback is kept inline: nearly always there is one
    PyObject *more_callbacks;     // list of (callback, context), or null
    PyObject *value;              // the result; beside an exception, the traceback with which it came, or null
    PyObject *exception, *cancel_message;
    PyObject *source_traceback; // where it was made or bound, if the loop was in debug mode; else null
    PyObject *weak_references;
    FutureState state;
    bool blocking;        // asyncio's handshake: the future was just yielded to a task
    bool held;            // we hold a reference to ourselves, from the first callback on
    bool never_retrieved; // an error that nobody has looked at
    bool resolving;       // the payload is being converted, by foreign code that may come back to us
};

inline Future *as_future(PyObject *object) noexcept { return reinterpret_cast<Future *>(object); }
inline PyObject *as_object(Future *future) noexcept { return reinterpret_cast<PyObject *>(future); }

inline FutureState state_of(Future *future) noexcept {
    const Locked lock(as_object(future));
    return future->state;
}
inline bool is_pending(Future *future) noexcept { return state_of(future) == FutureState::pending; }

/// Null: it is bound to none yet. Lives as long as the future.
inline Bridge *bridge_of(Future *future) noexcept {
    const Locked lock(as_object(future));
    return future->bridge;
}
/// A new reference to what the pointer points to, which may be null.
inline Ref copy_of(Future *future, PyObject *Future::*field) noexcept {
    const Locked lock(as_object(future));
    return Ref::borrow(future->*field);
}

/// False from now on; returns what it was.
bool take_flag(Future *, bool Future::*flag) noexcept;
/// asyncio's handshake.
inline void set_blocking(Future *future, bool blocking) noexcept {
    const Locked lock(as_object(future));
    future->blocking = blocking;
}

/// GIL. False for an object that a subclass made without calling our __init__.
inline bool is_initialized(Future *future) noexcept {
    return future->operation || bridge_of(future) || !is_pending(future);
}

/// GIL. Makes a zeroed object a pending future of this loop; null: of an operation that is not bound yet.
void init_future(Future *, Bridge *) noexcept;
/// GIL. The stack as traceback.extract_stack tells it, if the loop is in debug mode; else null. Null too with an error.
Ref stack_in_debug_mode(const Bridge &) noexcept;

/// GIL. The Future of an operation: a new reference. The ABI's operation_future. `scoped`: in the current scope.
PyObject *operation_future(Operation &, const aiobridge_converter *, bool scoped = true) noexcept;

/// GIL, loop thread. A future that no operation completes: a stream's wait.
Future *make_wait(Bridge &) noexcept;
/// GIL. A finished future with this result (stolen; null: with the pending error raised instead).
PyObject *make_finished(PyObject *result) noexcept;

/// GIL, loop thread. The one way in which a pending future becomes done: with a result, an exception, or (both null)
/// cancelled by the native side; one that is done stays as it is. `direct` and the answer: as future_resolve. Of this
/// and the next ones the caller holds a reference.
int future_complete(Future *, Ref result, Ref exception, bool direct) noexcept;
/// GIL, loop thread. Takes what the operation was completed with, converted, and wakes who waits. `direct`: we are in a
/// drain, outside of every task, and may resume tasks. -1: an error that must pass, after everything is in order.
int future_resolve(Future *, bool direct) noexcept;
/// GIL, loop thread. Finishes a wait. As above.
int future_finish_wait(Future *, bool direct) noexcept;
/// GIL. False if it was done.
bool future_cancel(Future *, PyObject *message, aiobridge_reason) noexcept;

/// GIL. The loop that runs here becomes the future's. 0: it has one, or none runs; -1 with an error.
int future_bind(Future *) noexcept;
/// GIL. Says what to do about a future that belongs to no loop.
PyObject *raise_no_loop(Future *) noexcept;
/// GIL. The result of a future that is done: a new reference, or null with its error.
PyObject *future_outcome(Future *) noexcept;
/// GIL. A new CancelledError with the future's message.
PyObject *future_cancelled_error(Future *) noexcept;

/// What `await` does with a future: value out, null with an error, or the future itself to be yielded.
PySendResult future_step(Future *, PyObject **out) noexcept;

} // namespace aiobridge::core
