// ext/core/future_callbacks.h: what is to be called when a future is done: add_done_callback and its kin
#pragma once

#include "future.h"

namespace aiobridge::core {

/// GIL. All callbacks, as a new list of (callback, context); null with an error.
Ref callbacks_of(Future *) noexcept;

/// GIL. The methods of aiobridge.Future.
PyObject *add_done_callback(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *keywords) noexcept;
PyObject *remove_done_callback(PyObject *self, PyObject *function) noexcept;

} // namespace aiobridge::core
