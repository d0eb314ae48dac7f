// ext/core/gil.h: the GIL for threads of anyone's
#pragma once

#include <aiobridge/c_api.h>

namespace aiobridge::core {

/// Any thread. False: the interpreter exits, or has. May stop the thread for ever if the interpreter exits with the
/// thread inside, past our patience; so not in a frame that is noexcept.
bool gil_acquire(aiobridge_gil_state &);
void gil_release(const aiobridge_gil_state &);

} // namespace aiobridge::core
