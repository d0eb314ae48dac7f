// ext/core/pausing.h: the steps of pause.h, for the tests of races. Not in ordinary builds
#pragma once

#include "python.h"

namespace aiobridge::core {

/// GIL.
int register_pausing(PyObject *module) noexcept;

} // namespace aiobridge::core
