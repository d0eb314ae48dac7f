// ext/core/notifier.cpp: the one thread that takes the GIL, to call loops
#include "notifier.h"

#include "bridge.h"
#include "pause.h"

#include <chrono>
#include <thread>

namespace aiobridge::core {

void notify_loop(Node *node) {
    auto *waker = static_cast<NotifierWaker *>(node);
    auto *bridge = static_cast<Bridge *>(waker->owner);
    AIOBRIDGE_PAUSE("notifier.taken");
    waker->taken();
    AIOBRIDGE_PAUSE("notifier.enter");
    Runtime &runtime = bridge->runtime;
    // Inside the gate the interpreter cannot go away: exit waits for us.
    while (runtime.gate.enter()) {
        AIOBRIDGE_PAUSE("notifier.entered");
        // One thread state for the thread's whole life: a new one for each call costs up to 20 times as much. It is
        // never deleted; at exit Python frees those that are left.
        const bool inside = runtime.interpreter.attach(runtime.notifier_thread);
        if (inside) {
            bridge->call_loop();
            PyEval_SaveThread();
        }
        AIOBRIDGE_PAUSE("notifier.leave");
        runtime.gate.leave();
        if (inside)
            break;
        // There was no memory, or the interpreter is about to close the gate. Nobody else will wake this loop, so until
        // there is, or it has.
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    AIOBRIDGE_PAUSE("notifier.called");
    bridge->release();
}

} // namespace aiobridge::core
