// ext/core/drain.h: delivers what was posted to a loop
#pragma once

#include "python.h"

namespace aiobridge::core {

class Bridge;

/// What is given to call_soon. Holds the bridge.
PyObject *make_drain(Bridge &) noexcept;
/// What is registered with the bridge's descriptor: a drain that clears the descriptor first, and whose end closes the
/// bridge, because it means that the loop was closed or collected. (Not so the other's: a wake in flight may hold it.)
PyObject *make_reader(Bridge &) noexcept;
/// The loop did not take it: its end means nothing.
void disarm_reader(PyObject *reader) noexcept;
int register_drain(PyObject *module) noexcept;

} // namespace aiobridge::core
