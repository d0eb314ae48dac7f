// ext/core/object.h: how a Python object travels from a Python producer to its consumer
#pragma once

#include "python.h"

#include <aiobridge/c_api.h>

namespace aiobridge::core {

/// The payload of a promise or writer that Python code holds is one owned reference. Python's producers hold the GIL
/// anyway, and so does the consumer; where such a payload ends without it (on the hook thread, with the last native
/// handle), the reference is dropped later.
extern const aiobridge_type object_type, object_error_type;
extern const aiobridge_converter object_converter;
/// Borrowed; null if the payload is none of Python's, or was taken. The type may be null.
PyObject *object_of(const aiobridge_type *, void *payload) noexcept;

/// GIL. An exception object for what was given as one, an instance or a class: a new reference; or null with a
/// TypeError that names the function.
Ref to_exception(PyObject *given, const char *function) noexcept;

} // namespace aiobridge::core
