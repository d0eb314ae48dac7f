// ext/core/batches.h: many events at a time: `stream.batches()` and `stream.arrays()`
#pragma once

#include "python.h"

namespace aiobridge::core {

int register_batches(PyObject *module) noexcept;

/// GIL. The methods of Stream.
PyObject *stream_batches(PyObject *stream, PyObject *args, PyObject *keywords) noexcept;
PyObject *stream_arrays(PyObject *stream, PyObject *args, PyObject *keywords) noexcept;

} // namespace aiobridge::core
