// ext/core/hooks.cpp: the user's functions, run on the hook thread
#include "hooks.h"

#include "pause.h"
#include "runtime.h"

#include <exception>
#include <new>

namespace aiobridge::core {

Hook *Hook::create(const aiobridge_hook &hook) noexcept { return new (std::nothrow) Hook(hook); }

void Hook::serve(Node *node) {
    auto *hook = static_cast<Hook *>(node);
    AIOBRIDGE_PAUSE("hooks.run");
    if (hook->wanted)
        hook->hook_.run(hook->hook_.context, hook->reason);
    AIOBRIDGE_PAUSE("hooks.ran");
    hook->hook_.destroy(hook->hook_.context);
    AIOBRIDGE_PAUSE("hooks.destroyed");
    if (hook->over_)
        hook->over_(hook->owner_);
    delete hook;
}

Hook *make_hook(Runtime &runtime, const aiobridge_hook &raw) noexcept {
    if (runtime.forked())
        return nullptr;
    try {
        runtime.hooks.start();
    } catch (const std::exception &) { // system_error, bad_alloc
        return nullptr;
    }
    return Hook::create(raw);
}

void HookSet::settle(Runtime &runtime, aiobridge_reason reason) noexcept {
    Batch batch = hooks_.close();
    while (Node *node = batch.pop())
        settle_late(runtime, static_cast<Hook *>(node), reason);
}

void HookSet::settle_late(Runtime &runtime, Hook *hook, aiobridge_reason reason) noexcept {
    hook->reason = reason;
    hook->wanted = reason != AIOBRIDGE_OPEN;
    AIOBRIDGE_PAUSE("hooks.post");
    runtime.hooks.post(hook);
}

void HookSet::settle_ready(Runtime &runtime, Hook *hook) noexcept {
    hook->wanted = true;
    AIOBRIDGE_PAUSE("hooks.post_ready");
    runtime.hooks.post(hook);
}

} // namespace aiobridge::core
