// ext/core/handler.h: the Python side of a callback
#pragma once

#include "bridge.h"
#include "python.h"

namespace aiobridge::core {

class Call;
class Callback;

/// Holds the Python function, and knows the calls that tasks run. GIL throughout. Not seen by users.
struct Handler {
    PyObject_HEAD
    Callback *callback;           // a reference
    PyObject *function, *context; // null once the loop is closed
    Call *running;                // a list
    Member member;                // of its bridge, so that the end of the loop reaches those calls
};

int register_handler() noexcept;
/// Cancels the tasks that run calls. -1 with an error that must pass.
int cancel_running(Handler *) noexcept;
/// A new reference; `callback` gives one of its own. Takes a copy of the current context.
Handler *make_handler(Callback &callback, Bridge &, PyObject *function) noexcept;

} // namespace aiobridge::core
