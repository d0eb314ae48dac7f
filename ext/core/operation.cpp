// ext/core/operation.cpp: the native side of one result
#include "operation.h"

#include "bridge.h"
#include "future.h"
#include "pause.h"
#include "payload.h"
#include "runtime.h"

#include <algorithm>
#include <new>
#include <string>
#include <utility>

namespace aiobridge::core {

Operation *Operation::create(const aiobridge_operation_options &options) noexcept {
    const auto alignment = std::max<std::size_t>(alignof(Operation), options.align);
    const auto offset = (sizeof(Operation) + alignment - 1) / alignment * alignment;
    void *memory = ::operator new(offset + options.size, std::align_val_t(alignment), std::nothrow);
    if (!memory)
        return nullptr;
    auto *operation = new (memory) Operation(options);
    operation->payload_offset_ = static_cast<std::uint32_t>(offset);
    operation->alignment_ = static_cast<std::uint32_t>(alignment);
    return operation;
}

Operation::Operation(const aiobridge_operation_options &options) noexcept
    : runtime_(Runtime::current()), site_(options.site) {}

Operation::~Operation() {
    drop_untaken();
    if (bridge_)
        bridge_->release();
}

// The payload, if nobody will take it.
void Operation::drop_untaken() noexcept {
    if (!type_)
        return;
    destroy_payload();
    if (word_.load(std::memory_order_acquire) & bound && runtime_.has_deferred())
        bridge_->nudge(); // what it could not end without the GIL waits for a drain
}

void *Operation::payload() noexcept { return reinterpret_cast<unsigned char *>(this) + payload_offset_; }

void Operation::destroy_payload() noexcept {
    const auto *type = std::exchange(type_, nullptr);
    if (type && type->flags & AIOBRIDGE_TYPE_ERROR)
        runtime_.drop_error(*type, payload());
    else if (type)
        aiobridge::core::destroy_payload(*type, payload());
}

void Operation::release() noexcept {
    // A child process frees nothing it inherited: other threads of the parent may have been anywhere in it.
    if (runtime_.forked() || references_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    const auto alignment = std::align_val_t(alignment_);
    this->~Operation();
    ::operator delete(static_cast<void *>(this), alignment);
}

void Operation::retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
void Operation::retain_promise() noexcept { promises_.fetch_add(1, std::memory_order_relaxed); }
void Operation::retain_consumer() noexcept { consumers_.fetch_add(1, std::memory_order_relaxed); }

void Operation::release_promise() noexcept {
    if (promises_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    AIOBRIDGE_PAUSE("operation.drop");
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    // A completion with no payload: the Future raises BrokenPromiseError. No allocation, since destructors come here.
    while (reason_of(word) == AIOBRIDGE_OPEN && !runtime_.closed())
        if (word_.compare_exchange_weak(word, word | AIOBRIDGE_FAILED << reason_shift, std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
            AIOBRIDGE_PAUSE("operation.broken");
            hooks_.settle(runtime_, AIOBRIDGE_OPEN);
            become_ready();
            break;
        }
    if (!(word & let_go))
        native_side_lets_go();
    release();
}

void Operation::native_side_lets_go() noexcept {
    // Relaxed: a scope that waits for this learns it from the open ends.
    AIOBRIDGE_PAUSE("operation.let_go");
    if (!runtime_.forked() && !(word_.fetch_or(let_go, std::memory_order_relaxed) & let_go))
        ends_.close();
}

void Operation::release_consumer() noexcept {
    if (consumers_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    AIOBRIDGE_PAUSE("operation.abandon");
    cancel(AIOBRIDGE_ABANDONED, false);
    if (!runtime_.forked() && word_.fetch_or(unwanted, std::memory_order_acq_rel) & ready)
        drop_untaken();
    release();
}

aiobridge_reason Operation::reason() const noexcept {
    const auto reason = reason_of(word_.load(std::memory_order_acquire));
    return reason == AIOBRIDGE_OPEN ? runtime_.closed() : reason;
}

aiobridge_fate Operation::complete(const aiobridge_type *type, void *payload) noexcept {
    AIOBRIDGE_PAUSE("operation.complete");
    if (runtime_.closed())
        return AIOBRIDGE_CLOSED;
    const std::uint32_t outcome = type->flags & AIOBRIDGE_TYPE_ERROR ? AIOBRIDGE_FAILED : AIOBRIDGE_FINISHED;
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    do {
        if (const auto reason = reason_of(word)) {
            if (reason >= AIOBRIDGE_CONSUMER_CLOSED) {
                native_side_lets_go();
                return AIOBRIDGE_CLOSED;
            }
            report_misuse();
            return AIOBRIDGE_ALREADY_SET;
        }
        // Acquire: our writes to the payload come after the claim.
    } while (!word_.compare_exchange_weak(word, word | outcome << reason_shift | let_go, std::memory_order_acq_rel,
                                          std::memory_order_relaxed));
    AIOBRIDGE_PAUSE("operation.claimed");
    move_payload(*type, this->payload(), payload);
    type_ = type;
    AIOBRIDGE_PAUSE("operation.written");
    hooks_.settle(runtime_, AIOBRIDGE_OPEN);
    become_ready();
    AIOBRIDGE_PAUSE("operation.completed");
    ends_.close();
    return AIOBRIDGE_ACCEPTED;
}

bool Operation::cancel(aiobridge_reason reason, bool tell_loop) noexcept {
    if (runtime_.forked())
        return false;
    AIOBRIDGE_PAUSE("operation.cancel");
    std::uint32_t word = word_.load(std::memory_order_relaxed);
    do {
        if (reason_of(word) != AIOBRIDGE_OPEN)
            return false;
    } while (!word_.compare_exchange_weak(word, word | reason << reason_shift, std::memory_order_acq_rel,
                                          std::memory_order_relaxed));
    AIOBRIDGE_PAUSE("operation.cancelled");
    if (tell_loop)
        become_ready();
    else
        word_.fetch_or(ready, std::memory_order_acq_rel);
    AIOBRIDGE_PAUSE("operation.cancel_told");
    hooks_.settle(runtime_, reason);
    return true;
}

void Operation::become_ready() noexcept {
    AIOBRIDGE_PAUSE("operation.ready");
    // Release: the payload; acquire: the bridge, if it is bound.
    const auto before = word_.fetch_or(ready, std::memory_order_acq_rel);
    AIOBRIDGE_PAUSE("operation.is_ready");
    if (before & unwanted)
        drop_untaken();
    if (before & bound) {
        references_.fetch_add(1, std::memory_order_relaxed);
        if (!bridge_->post(this))
            discard();
    }
    AIOBRIDGE_PAUSE("operation.posted");
    if (before & waited)
        runtime_.notify_waiters();
}

bool Operation::bind(Bridge &bridge) noexcept {
    bridge.retain();
    bridge_ = &bridge;
    AIOBRIDGE_PAUSE("operation.bind");
    return !(word_.fetch_or(bound, std::memory_order_acq_rel) & ready);
}

void Operation::wait(std::chrono::steady_clock::time_point until) {
    word_.fetch_or(waited, std::memory_order_acq_rel);
    const auto may_be_done = [this] {
        const auto word = word_.load(std::memory_order_acquire);
        return (word & delivered) || (word & (ready | bound)) == ready;
    };
    AIOBRIDGE_PAUSE("operation.wait");
    runtime_.wait(may_be_done, until);
}

void Operation::mark_delivered() noexcept {
    // In a child process the lock may be held by a thread of the parent.
    if (!runtime_.forked() && word_.fetch_or(delivered, std::memory_order_acq_rel) & waited)
        runtime_.notify_waiters();
}

int Operation::on_cancel(const aiobridge_hook &raw) noexcept {
    Hook *hook = make_hook(runtime_, raw);
    if (!hook)
        return -1;
    ends_.open();
    retain();
    hook->tell_when_over(
        [](void *operation) {
            static_cast<Operation *>(operation)->ends_.close();
            static_cast<Operation *>(operation)->release();
        },
        this);
    AIOBRIDGE_PAUSE("operation.add_hook");
    if (!hooks_.add(hook)) {
        AIOBRIDGE_PAUSE("operation.hook_late");
        const auto why = reason();
        HookSet::settle_late(runtime_, hook, why >= AIOBRIDGE_CONSUMER_CLOSED ? why : aiobridge_reason{AIOBRIDGE_OPEN});
    }
    return 0;
}

int Operation::enter_scope() noexcept {
    static const ScopedKind kind{
        [](void *operation) noexcept { static_cast<Operation *>(operation)->retain(); },
        [](void *operation) noexcept { static_cast<Operation *>(operation)->release(); },
        [](void *object, PyObject *why) noexcept {
            auto *operation = static_cast<Operation *>(object);
            if (const Ref future = operation->future.get())
                future_cancel(as_future(future.get()), why, AIOBRIDGE_SCOPE_EXIT);
            else
                operation->cancel(AIOBRIDGE_SCOPE_EXIT, true);
            return PyErr_Occurred() ? -1 : 0;
        },
        [](void *operation) noexcept { return static_cast<Operation *>(operation)->describe(); },
    };
    return ends_.enter(kind, this);
}

PyObject *Operation::describe() noexcept {
    return PyUnicode_FromFormat("an operation made at %s:%u, %s", site_.file ? site_.file : "?", site_.line,
                                word_.load(std::memory_order_relaxed) & let_go
                                    ? "whose on_cancel hook has not returned"
                                    : "whose promise was neither fulfilled nor dropped");
}

int Operation::deliver(Bridge &bridge) {
    AIOBRIDGE_PAUSE("operation.deliver");
    int result = 0;
    if (const Ref object = future.get())
        result = future_resolve(as_future(object.get()), bridge.may_resume);
    release();
    return result;
}

void Operation::discard() noexcept { release(); }

void Operation::report_misuse() noexcept {
    runtime_.figures.misuses.fetch_add(1, std::memory_order_relaxed);
    try {
        runtime_.report(std::string("a promise made at ") + (site_.file ? site_.file : "?") + ":" +
                        std::to_string(site_.line) +
                        " was fulfilled twice: the first result stands, the second was destroyed");
    } catch (const std::bad_alloc &) {
        // It is counted all the same.
    }
    if (word_.load(std::memory_order_acquire) & bound)
        bridge_->nudge();
}

} // namespace aiobridge::core
