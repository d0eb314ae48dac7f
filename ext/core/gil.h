// ext/core/gil.h: the GIL for threads of anyone's
#pragma once

#include <aiobridge/c_api.h>

namespace aiobridge::core {

class Gate;

/// Any thread. False: the interpreter exits, or has; or there was no memory. If the interpreter exits with the thread
/// inside, past our patience, the thread is stopped or unwound: so not in a frame that is noexcept.
bool gil_acquire(aiobridge_gil_state &);
/// The same through another gate than the one for everybody.
bool gil_acquire(aiobridge_gil_state &, Gate &);
void gil_release(const aiobridge_gil_state &);

} // namespace aiobridge::core
