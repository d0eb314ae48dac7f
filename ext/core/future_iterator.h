// ext/core/future_iterator.h: what `await future` iterates
#pragma once

#include "future.h"

namespace aiobridge::core {

int register_future_iterator(PyObject *module) noexcept;

/// GIL. A new iterator. Separate from the future, because asyncio takes what has send, throw and close for a coroutine.
PyObject *make_future_iterator(Future *) noexcept;

/// GIL. The end of an iteration with this value (stolen): null, with StopIteration set unless the value is None. Exact
/// for tuples and exceptions, which PyErr_SetObject would take apart.
PyObject *stop_with_value(PyObject *value) noexcept;

} // namespace aiobridge::core
