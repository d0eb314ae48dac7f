// ext/core/hooks.h: the user's functions, run on the hook thread
#pragma once

#include "counted.h"
#include "inbox.h"
#include "pause.h"

#include <aiobridge/c_api.h>

namespace aiobridge::core {

class Runtime;

/// One registered hook. Owns the user's closure, which dies on the hook thread too.
class Hook : public Node, Counted<Hook> {
public:
    using Counted<Hook>::live;
    static Hook *create(const aiobridge_hook &hook) noexcept; // null: no memory

    /// On the hook thread: runs it if it has to be run, and frees it.
    static void serve(Node *node);

    /// Before it is posted. `over(owner)` is called on the hook thread when the hook has returned and was destroyed.
    void tell_when_over(void (*over)(void *owner), void *owner) noexcept {
        over_ = over;
        owner_ = owner;
    }

    // Set by settle.
    aiobridge_reason reason = AIOBRIDGE_OPEN;
    bool wanted = false; // else it is only destroyed

private:
    explicit Hook(const aiobridge_hook &hook) noexcept : hook_(hook) {}
    aiobridge_hook hook_;
    void (*over_)(void *) = nullptr;
    void *owner_ = nullptr;
};

/// Any thread; starts the hook thread. Null: it cannot be started, no memory, or a child process. The hook is then
/// still the caller's.
Hook *make_hook(Runtime &, const aiobridge_hook &) noexcept;

/// The hooks of one operation or stream. Settled exactly once: then each hook registered so far, and each that comes
/// later, goes to the hook thread. It is an inbox that nobody drains: settling closes it.
class HookSet {
public:
    /// Any thread. False: the set is settled, and the hook is still the caller's, for settle_late.
    bool add(Hook *hook) noexcept {
        mark_used(); // before, so that an aclose() in between waits for it
        AIOBRIDGE_PAUSE("hooks.add");
        return hooks_.post(hook) != Posted::refused;
    }
    /// Any thread, the first call counts. `reason`: run them with it; `open`: destroy them without running.
    void settle(Runtime &runtime, aiobridge_reason reason) noexcept;
    static void settle_late(Runtime &runtime, Hook *hook, aiobridge_reason reason) noexcept;
    /// Any thread. Runs a hook that waited for something else than an end: with the reason `open`.
    static void settle_ready(Runtime &runtime, Hook *hook) noexcept;

    /// True once a hook was ever added. Relaxed: asked by the thread that has settled the set, or by one that has
    /// synchronised with the one that added.
    bool used() const noexcept { return used_.load(std::memory_order_relaxed); }

private:
    void mark_used() noexcept { used_.store(true, std::memory_order_relaxed); }
    Inbox hooks_;
    std::atomic<bool> used_{false};
};

} // namespace aiobridge::core
