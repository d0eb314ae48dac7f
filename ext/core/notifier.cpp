// ext/core/notifier.cpp: the one thread that takes the GIL, to call loops
#include "notifier.h"

#include "bridge.h"

namespace aiobridge::core {

void notify_loop(Node *node) {
    auto *waker = static_cast<NotifierWaker *>(node);
    auto *bridge = static_cast<Bridge *>(waker->owner);
    waker->taken();
    Runtime &runtime = bridge->runtime;
    // Inside the gate the interpreter cannot go away: exit waits for us.
    if (runtime.gate.enter()) {
        // One thread state for the thread's whole life: a new one for each call costs up to 20 times as much. It is
        // never deleted; at exit Python frees those that are left.
        if (!runtime.notifier_thread)
            runtime.notifier_thread = PyThreadState_New(runtime.interpreter);
        PyEval_RestoreThread(runtime.notifier_thread);
        bridge->call_loop();
        PyEval_SaveThread();
        runtime.gate.leave();
    }
    bridge->release();
}

} // namespace aiobridge::core
