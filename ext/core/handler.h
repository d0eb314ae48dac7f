// ext/core/handler.h: the Python side of a callback
#pragma once

#include "bridge.h"
#include "python.h"

namespace aiobridge::core {

class Callback;

/// Holds the Python function. GIL throughout. Not seen by users.
struct Handler {
    PyObject_HEAD
    Callback *callback;           // a reference
    PyObject *function, *context; // null once the loop is closed; under Locked
    Member member;                // of its bridge, so that the end of the loop reaches the callback's calls
};

int register_handler() noexcept;
inline Handler *as_handler(PyObject *object) noexcept { return reinterpret_cast<Handler *>(object); }
/// A new reference, null with an error; `callback` gives one of its own. Takes a copy of the current context. To be
/// linked to its bridge.
Ref make_handler(Callback &callback, PyObject *function) noexcept;
/// A new reference; null once the loop is closed.
Ref function_of(Handler *) noexcept;
Ref context_of(Handler *) noexcept;

} // namespace aiobridge::core
