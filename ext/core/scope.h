// ext/core/scope.h: what was made inside `async with aiobridge.scope()`, until the native side has let go of it
#pragma once

#include "counted.h"
#include "pause.h"
#include "python.h"
#include "roster.h"

#include <aiobridge/c_api.h>

#include <atomic>
#include <cstdint>

namespace aiobridge::core {

class Operation;

/// What a scope does with the operations, or the streams, or the callbacks made inside.
struct ScopedKind {
    // Any thread.
    void (*retain)(void *object) noexcept;
    void (*release)(void *object) noexcept;
    /// GIL. Cancels or closes it; who waits is told why by a text. -1 with an error that must pass, after it is done.
    int (*leave)(void *object, PyObject *why) noexcept;
    /// GIL. What it is, and what is not over yet: new text, or null with an error.
    PyObject *(*describe)(void *object) noexcept;
};

/// Made and left by Python's `scope`. Objects that are made while it is the current one are in it from then on; each
/// goes when its last open end is closed, on whatever thread that is.
class Scope final : Counted<Scope> {
public:
    using Counted<Scope>::live;

    /// One object's place. Owned by the object's OpenEnds.
    class Entry final : public Roster<Entry>::Entry {
    public:
        Entry(Scope &scope, const ScopedKind &kind, void *object) noexcept;
        /// Any thread. The last open end is closed.
        void done() noexcept;

        Scope &scope; // a reference
        const ScopedKind &kind;
        void *const object; // alive as long as the entry is in the roster: done() comes before its end
    };

    /// GIL. The one that is current in this context, and open or left; null without an error if there is none.
    static Ref current() noexcept;
    static Scope &of(PyObject *scope) noexcept;

    bool is_left() const noexcept { return left_.load(std::memory_order_relaxed); }

    void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void release() noexcept;

private:
    friend int register_scope(PyObject *module) noexcept;
    struct Methods;
    Scope() noexcept = default;
    ~Scope() = default;

    std::atomic<std::uint32_t> references_{1}; // the Python object, and each entry
    std::atomic<bool> left_{false};            // relaxed: who leaves and who enters hold the GIL
    Roster<Entry> entries_;
    Operation *waiter_ = nullptr; // a promise; guarded by the roster's lock. Completed when nothing is left
};

int register_scope(PyObject *module) noexcept;

/// The native side's open ends of one object: one until it has let go, and one for each hook that has not returned.
///
/// open() and close() on any thread; enter() once, with the GIL. Whoever comes second, the thread that closes the last
/// end or the one that enters a scope, sees the other: both write one variable and then read the other one, all with
/// sequential consistency, the default.
class OpenEnds {
public:
    OpenEnds() noexcept = default;
    OpenEnds(const OpenEnds &) = delete;
    OpenEnds &operator=(const OpenEnds &) = delete;

    void open() noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
    void close() noexcept {
        AIOBRIDGE_PAUSE("scope.end");
        if (count_.fetch_sub(1) == 1 && entry_.load())
            finish();
    }
    std::uint32_t count() const noexcept { return count_.load(std::memory_order_relaxed); }
    /// GIL. Puts the object into the current scope, if there is one. -1 with an error: that was left.
    int enter(const ScopedKind &, void *object) noexcept;

private:
    void finish() noexcept;
    std::atomic<std::uint32_t> count_{1};
    std::atomic<Scope::Entry *> entry_{nullptr};
};

} // namespace aiobridge::core
