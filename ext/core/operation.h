// ext/core/operation.h: the native side of one result: a word, a payload, and who still wants it
#pragma once

#include "counted.h"
#include "hooks.h"
#include "item.h"
#include "locked.h"
#include "scope.h"

#include <aiobridge/c_api.h>

#include <atomic>
#include <chrono>
#include <cstdint>

struct aiobridge_operation {}; // what handles point to: the base of Operation

namespace aiobridge::core {

class Bridge;
class Runtime;
struct Future;

/// Made on any thread; completed once, on any thread; read by the Future that owns its consumer's end.
///
/// One atomic word holds the whole state, so that "first completion wins" and "bound or resolved" are each one
/// exchange:
///   bits 8–15  the reason: `open` while a completion would be accepted, then for ever the first of finished (a value),
///              failed (an error or a broken promise) and the reasons for which consumers cancel
///   ready      the payload is written (or there will be none)
///   bound      the operation belongs to a loop: `bridge()` may be read
///   waited     a thread waits in result()
///   delivered  the Future is no longer pending (set only for those who wait)
///   let_go     the native side has completed it, in vain or not, or dropped its promise
///   unwanted   the last consumer is gone
/// A payload that nobody will take goes with whichever of ready and unwanted comes second: it may hold the promise.
/// Ready and bound are each set once. Whichever comes second sees the other: completing a bound operation posts it,
/// binding a ready one resolves its Future on the spot; neither happens twice, neither is forgotten.
class Operation final : public aiobridge_operation, public Item, Counted<Operation> {
public:
    using Counted<Operation>::live;
    static Operation *create(const aiobridge_operation_options &) noexcept; // null: no memory
    static Operation *from(aiobridge_operation *raw) noexcept { return static_cast<Operation *>(raw); }

    void retain() noexcept;
    void release() noexcept;
    void retain_promise() noexcept;
    void release_promise() noexcept; // the last one, unfulfilled, breaks the promise
    void retain_consumer() noexcept;
    void release_consumer() noexcept; // the last one abandons the operation

    /// Any thread. Moves the payload in only if the answer is `accepted`.
    aiobridge_fate complete(const aiobridge_type *, void *payload) noexcept;
    /// Any thread. True if this call cancelled it. `tell_loop`: the Future does not know yet.
    bool cancel(aiobridge_reason, bool tell_loop) noexcept;
    int on_cancel(const aiobridge_hook &) noexcept;
    /// GIL. Puts it into the current scope, if there is one. -1 with an error.
    int enter_scope() noexcept;
    aiobridge_reason reason() const noexcept;
    bool is_cancelled() const noexcept { return reason() >= AIOBRIDGE_CONSUMER_CLOSED; }

    /// GIL, once. False: the operation was ready, nothing will be posted, the caller resolves the Future.
    bool bind(Bridge &) noexcept;
    bool is_ready() const noexcept { return word_.load(std::memory_order_acquire) & ready; }
    /// Without the GIL. Until the Future may be done: it was delivered, or the operation is ready and belongs to no
    /// loop; or until the time has come.
    void wait(std::chrono::steady_clock::time_point until);
    /// GIL. The Future is no longer pending.
    void mark_delivered() noexcept;

    /// When ready: what it was completed with. Null: cancelled, or a broken promise.
    const aiobridge_type *payload_type() const noexcept { return type_; }
    void *payload() noexcept;
    void destroy_payload() noexcept;

    const aiobridge_site &site() const noexcept { return site_; }
    Runtime &runtime() const noexcept { return runtime_; }

    // Item: delivered by the drain.
    int deliver(Bridge &) override;
    void discard() noexcept override;

    Borrowed<Future> future;

private:
    explicit Operation(const aiobridge_operation_options &) noexcept;
    ~Operation();
    void become_ready() noexcept;
    void drop_untaken() noexcept;
    void report_misuse() noexcept;
    void native_side_lets_go() noexcept;
    PyObject *describe() noexcept;

    static constexpr std::uint32_t ready = 1, bound = 2, waited = 4, delivered = 8, let_go = 16, unwanted = 32,
                                   reason_shift = 8;
    static aiobridge_reason reason_of(std::uint32_t word) noexcept { return word >> reason_shift; }

    Runtime &runtime_;
    std::atomic<std::uint32_t> word_{0};
    // Counts: acquire and release on the way to zero, so that the one who frees sees all that was done.
    std::atomic<std::uint32_t> references_{2}; // one for all promises, one for all consumers; posts, stop tokens
    std::atomic<std::uint32_t> promises_{1}, consumers_{1};
    Bridge *bridge_ = nullptr; // written before `bound` is set
    const aiobridge_type *type_ = nullptr;
    HookSet hooks_;
    OpenEnds ends_;
    aiobridge_site site_;
    std::uint32_t payload_offset_, alignment_;
};

} // namespace aiobridge::core
