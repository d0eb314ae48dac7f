// ext/core/call.h: one call of a callback, on its way to the loop and through it
#pragma once

#include "callback.h"
#include "item.h"
#include "limit.h"
#include "python.h"

#include <aiobridge/c_api.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace aiobridge::core {

class Call;

/// A call's place in the list of those that tasks run. Guarded by the callback's lock.
struct Running {
    Call *previous = nullptr, *next = nullptr;
    Ref task; // an event loop holds its tasks weakly; null: no task runs it
};

/// Posted by any thread; run by a drain. Ends once: with a result, an exception, or because it was not made.
class Call final : public Item {
public:
    /// Null: no memory; the payload is then still the caller's.
    static Call *create(Callback &, const aiobridge_call_type &, void *payload) noexcept;
    /// Not posted: gives the payload back, and frees the call.
    void give_back(void *payload) noexcept;
    /// Any thread. It will not be made.
    void refuse(aiobridge_fate, aiobridge_reason) noexcept;
    /// Any thread. Frees it, unless a task runs it.
    void release() noexcept;
    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }

    // Item.
    int deliver(Bridge &) override;
    void discard() noexcept override;

    /// GIL. The loop was closed while a task runs it.
    void loop_closed(aiobridge_reason, bool drop_now) noexcept;

    Waiting waiting; // the limit's
    Running running; // the callback's

private:
    Call(Callback &callback, const aiobridge_call_type &type) noexcept : callback_(callback), type_(type) {}
    ~Call() = default;
    void *payload() noexcept;
    static int run(Call *) noexcept;
    bool start(Ref &interrupt) noexcept;
    bool watch(PyObject *task) noexcept;
    static PyObject *done(PyObject *capsule, PyObject *task) noexcept;
    static void forgotten(PyObject *capsule) noexcept;
    [[nodiscard]] Ref finish(Ref result, Ref exception, bool of_task) noexcept;
    int report(PyObject *exception) noexcept;
    void end() noexcept;

    Callback &callback_; // a reference
    const aiobridge_call_type &type_;
    Ref handler_;                              // GIL. From its start on; whoever ends it takes it
    std::atomic<std::uint32_t> references_{1}; // the way through the inbox and the limit; and the task's callback
    std::size_t offset_ = 0, alignment_ = 0;
};

} // namespace aiobridge::core
