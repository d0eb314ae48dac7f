// ext/core/words.h: fates and reasons as Python's words
#pragma once

#include "python.h"

#include <aiobridge/c_api.h>

namespace aiobridge::core {

int init_words() noexcept;

/// GIL. An aiobridge.Fate: borrowed.
PyObject *fate_word(aiobridge_fate) noexcept;
/// GIL. An aiobridge.CloseReason: borrowed.
PyObject *reason_word(aiobridge_reason) noexcept;

} // namespace aiobridge::core
