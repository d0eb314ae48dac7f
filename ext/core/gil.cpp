// ext/core/gil.cpp: the GIL for threads of anyone's
#include "gil.h"

#include "python.h"
#include "runtime.h"

namespace aiobridge::core {

bool gil_acquire(aiobridge_gil_state &state) { return gil_acquire(state, Runtime::current().gate); }

bool gil_acquire(aiobridge_gil_state &state, Gate &gate) {
    state = {};
    if (holds_gil())
        return true;
    // Inside the gate from here on: the exit waits for us, so the GIL will be given.
    if (!gate.enter())
        return false;
    state.gate = &gate; // the one to leave: a child process, forked inside, has another
    if (Runtime::current().interpreter.ensure(state.token))
        return true;
    gate.leave();
    return false;
}

void gil_release(const aiobridge_gil_state &state) {
    if (!state.gate)
        return;
    // Not held: Python ends this thread by unwinding it, and we are in the destructor of the guard.
    if (holds_gil())
        guarded([&] { return Interpreter::release(state.token), true; }); // it frees what is the thread's own
    static_cast<Gate *>(state.gate)->leave();
}

} // namespace aiobridge::core
