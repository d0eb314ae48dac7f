// ext/core/writer.h: aiobridge.Writer, with which Python code on any thread fills a Stream
#pragma once

#include "python.h"

namespace aiobridge::core {

/// Adds the type, and make_stream().
int register_writer(PyObject *module) noexcept;

} // namespace aiobridge::core
