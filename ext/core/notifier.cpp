// ext/core/notifier.cpp: the one thread that takes the GIL, to call loops
#include "notifier.h"

#include "bridge.h"
#include "pause.h"

namespace aiobridge::core {

void notify_loop(Node *node) {
    auto *waker = static_cast<NotifierWaker *>(node);
    auto *bridge = static_cast<Bridge *>(waker->owner);
    AIOBRIDGE_PAUSE("notifier.taken");
    waker->taken();
    AIOBRIDGE_PAUSE("notifier.enter");
    Runtime &runtime = bridge->runtime;
    // Inside the gate the interpreter cannot go away: exit waits for us.
    if (runtime.gate.enter()) {
        // One thread state for the thread's whole life: a new one for each call costs up to 20 times as much. It is
        // never deleted; at exit Python frees those that are left.
        if (!runtime.notifier_thread)
            runtime.notifier_thread = PyThreadState_New(runtime.interpreter);
        AIOBRIDGE_PAUSE("notifier.entered");
        PyEval_RestoreThread(runtime.notifier_thread);
        bridge->call_loop();
        PyEval_SaveThread();
        AIOBRIDGE_PAUSE("notifier.leave");
        runtime.gate.leave();
    }
    AIOBRIDGE_PAUSE("notifier.called");
    bridge->release();
}

} // namespace aiobridge::core
