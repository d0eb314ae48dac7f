// ext/core/callback.h: a Python callable that native threads hold and call
#pragma once

#include "counted.h"
#include "item.h"
#include "limit.h"
#include "locked.h"
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
    /// GIL: a new reference to the Handler, null when it was let go.
    Ref handler() noexcept;
    /// GIL. A task runs this call from now on.
    void add_running(Call &, PyObject *task) noexcept;
    /// GIL. It does so no more; `task` is what add_running() was given. False: it did not. So of a task's end and the
    /// loop's only one ends the call.
    bool remove_running(Call &, Ref &task) noexcept;
    /// GIL. The loop is closed: ends those calls.
    void end_running(aiobridge_reason, bool drop_now) noexcept;

    Limit &limit() noexcept { return limit_; }
    Bridge &bridge() const noexcept { return bridge_; }
    Runtime &runtime() const noexcept { return runtime_; }

    // Item: the last handle is gone.
    int deliver(Bridge &) override;
    void discard() noexcept override;

private:
    explicit Callback(Bridge &) noexcept;
    ~Callback();
    aiobridge_fate admit(Call &) noexcept;

    void let_go() noexcept;
    void close_own_end() noexcept;
    Ref cancel(PyObject *task) noexcept;
    int cancel_running() noexcept;
    PyObject *describe() noexcept;

    Runtime &runtime_;
    Bridge &bridge_;                // owned
    PythonLock lock_;               // guards the next four
    Ref handler_;                   // a Handler; null when it was let go
    Call *first_running_ = nullptr; // a list of the calls that tasks run
    bool ending_ = false;           // the last handle is gone, and calls wait for a place, or tasks run them
    bool let_go_ = false;           // nobody can start a call any more
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
