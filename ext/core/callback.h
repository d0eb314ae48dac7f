// ext/core/callback.h: a Python callable that native threads hold and call
#pragma once

#include "counted.h"
#include "item.h"
#include "limit.h"
#include "python.h"
#include "scope.h"

#include <aiobridge/c_api.h>

#include <atomic>
#include <cstdint>

struct aiobridge_callback {}; // what handles point to: the base of Callback

namespace aiobridge::core {

class Bridge;
class Call;
class Runtime;
struct Handler;

/// Made on the loop's thread; held, called and let go on any. The Python side of it is a Handler, which goes in a drain
/// after the last handle, or when the loop is closed.
class Callback final : public aiobridge_callback, public Item, Counted<Callback> {
public:
    using Counted<Callback>::live;
    /// GIL. Null with a Python error.
    static Callback *create(PyObject *callable) noexcept;
    static Callback *from(aiobridge_callback *raw) noexcept { return static_cast<Callback *>(raw); }

    // Any thread, without the GIL.
    void retain_handle() noexcept { handles_.fetch_add(1, std::memory_order_relaxed); }
    void release_handle() noexcept;
    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept;
    /// Moves the payload in if it is accepted. Waits only if it has a limit whose policy is `block`.
    aiobridge_fate call(const aiobridge_call_type &, void *payload) noexcept;
    aiobridge_reason reason() const noexcept;
    /// 0, or a negative number: see callback_limit of the ABI.
    int set_limit(const aiobridge_limit &) noexcept;

    // GIL, loop thread.

    /// A call has ended: the next one to start, or null.
    Call *next_call() noexcept;
    /// The loop is closed: lets go of the Handler.
    void loop_closed() noexcept;
    /// Its scope was left: no call is made any more, and those that tasks run are cancelled.
    int leave_scope() noexcept;
    bool scope_is_left() const noexcept { return left_.load(std::memory_order_relaxed); }
    /// For tasks that run calls: a scope waits for them.
    OpenEnds &ends() noexcept { return ends_; }

    Limit &limit() noexcept { return limit_; }
    Bridge &bridge() const noexcept { return bridge_; }
    Runtime &runtime() const noexcept { return runtime_; }

    // Item: the last handle is gone.
    int deliver(Bridge &) override;
    void discard() noexcept override;

    Handler *handler = nullptr; // GIL. Owned; null when it was let go

private:
    explicit Callback(Bridge &) noexcept;
    ~Callback();
    aiobridge_fate admit(Call &) noexcept;

    void let_go() noexcept;
    void close_own_end() noexcept;
    PyObject *describe() noexcept;

    Runtime &runtime_;
    Bridge &bridge_;      // owned
    bool ending_ = false; // GIL. The last handle is gone, and calls wait for a place, or tasks run them
    bool let_go_ = false; // GIL. Nobody can start a call any more
    OpenEnds ends_;
    std::atomic<bool> left_{false}; // relaxed: who sees it late posts a call that is refused on the loop
    Limit limit_;
    std::atomic<bool> called_{false};     // relaxed: only to refuse a limit that comes too late
    std::atomic<bool> overflowed_{false}; // relaxed: the limit's lock decides
    // Counts: acquire and release on the way to zero, so that the one who frees sees all that was done.
    std::atomic<std::uint32_t> references_{1}; // one for all handles, then for the post of their end; Handler, calls
    std::atomic<std::uint32_t> handles_{1};
};

} // namespace aiobridge::core
