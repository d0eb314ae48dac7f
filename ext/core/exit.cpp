// ext/core/exit.cpp: the interpreter's exit, and the child after a fork
#include "exit.h"

#include "bridge.h"
#include "callback.h"
#include "channel.h"
#include "operation.h"
#include "scope.h"

#include <aiobridge/c_api.h>

#include <condition_variable>
#include <memory>
#include <mutex>

namespace aiobridge::core {
namespace {

void warn(const char *message) noexcept {
    if (PyErr_WarnEx(PyExc_RuntimeWarning, message, 1) != 0)
        tell_unraisable(nullptr);
}

// Waits until the hooks posted so far have returned. Without the GIL. False: not in time.
bool drain_hooks(Runtime &runtime) {
    struct Barrier {
        std::mutex mutex;
        std::condition_variable changed;
        bool passed = false;
    };
    // Shared: a hook that never returns leaves the barrier behind.
    auto barrier = std::make_shared<Barrier>();
    const aiobridge_hook raw{sizeof(aiobridge_hook), 0, [](void *, aiobridge_reason) {},
                             [](void *context) {
                                 const std::unique_ptr<std::shared_ptr<Barrier>> held(
                                     static_cast<std::shared_ptr<Barrier> *>(context));
                                 const std::lock_guard lock((*held)->mutex);
                                 (*held)->passed = true;
                                 (*held)->changed.notify_all();
                             },
                             new std::shared_ptr<Barrier>(barrier)};
    Hook *hook = Hook::create(raw);
    if (!hook)
        return true;
    HookSet::settle_late(runtime, hook, AIOBRIDGE_INTERPRETER_EXIT);
    std::unique_lock lock(barrier->mutex);
    return barrier->changed.wait_for(lock, exit_patience, [&] { return barrier->passed; });
}

} // namespace

void at_exit() noexcept {
    Runtime &runtime = Runtime::current();
    if (runtime.gate.is_closed())
        return;
    runtime.gate.close();
    bool left = true, drained = true;
    aiobridge_job *calls = runtime.pool.close();
    Py_BEGIN_ALLOW_THREADS
        left = runtime.gate.wait_until_empty(exit_patience);
        while (calls) {
            aiobridge_job *call = calls;
            calls = call->next;
            call->drop(call);
        }
    Py_END_ALLOW_THREADS
    runtime.set_closed(AIOBRIDGE_INTERPRETER_EXIT);
    Bridge::close_all(AIOBRIDGE_INTERPRETER_EXIT);
    // Those that no loop knows: their producers may be waiting for room.
    for (Channel *channel : runtime.channels.retain_all()) {
        channel->leave(AIOBRIDGE_INTERPRETER_EXIT);
        channel->release();
    }
    if (runtime.hooks.is_started()) {
        Py_BEGIN_ALLOW_THREADS
            drained = drain_hooks(runtime);
        Py_END_ALLOW_THREADS
    }
    runtime.hook_gate.close();
    if (runtime.run_deferred(nullptr) != 0)
        tell_unraisable(nullptr);
    runtime.notify_waiters();
    if (!left)
        warn("aiobridge: a thread did not come out of aiobridge::gil, or of a loop's call_soon_threadsafe, within 5 s "
             "of the interpreter's exit");
    if (!drained)
        warn("aiobridge: an on_cancel or on_close hook did not return within 5 s of the interpreter's exit");
}

void after_fork_in_child() noexcept {
    // The parent's threads are not here, and its objects are as they left them. So nothing inherited is touched: every
    // handle answers `closed`, and what there is once in a process is new.
    Runtime &inherited = Runtime::current();
    inherited.set_closed(AIOBRIDGE_FORKED);
    Bridge::forget_all();
    Counted<Bridge>::forget();
    Counted<Operation>::forget();
    Counted<Channel>::forget();
    Counted<Callback>::forget();
    Counted<Scope>::forget();
    Counted<Hook>::forget();
    Runtime::start();
    Runtime::current().wake_mode = inherited.wake_mode.load();
    Runtime::current().pool.resize(inherited.pool.configured_size());
}

} // namespace aiobridge::core
