// aiobridge/gil.h: the GIL for code on a native thread that must really hold it
#pragma once

#include <aiobridge/detail/runtime.h>

#include <new>
#include <stdexcept>

AIOBRIDGE_NAMESPACE_BEGIN

/// The GIL was refused, because the interpreter exits or has exited.
class interpreter_exit : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// Holds the GIL of the main interpreter from construction to destruction, on any thread, whether Python knows the
/// thread or not; within a thread that holds it already it does nothing. On an exception, too, the previous state comes
/// back. The interpreter's exit waits for the threads inside (5 s), and those that come later are refused, where
/// pybind11's gil_scoped_acquire would crash or hang.
///
/// It waits for the GIL: not with a lock that a thread with the GIL may want. To be called back, take a callback.
class gil {
public:
    /// Throws interpreter_exit.
    gil() : gil(std::nothrow) {
        if (!held_)
            throw interpreter_exit("aiobridge::gil: the Python interpreter exits, or has exited");
    }
    /// Refused if it converts to false.
    explicit gil(const std::nothrow_t &) : held_(detail::api().gil_acquire(&state_) == 0) {}
    gil(const gil &) = delete;
    gil &operator=(const gil &) = delete;
    ~gil() {
        if (held_)
            detail::api().gil_release(&state_);
    }
    explicit operator bool() const noexcept { return held_; }

private:
    aiobridge_gil_state state_{};
    const bool held_;
};

AIOBRIDGE_NAMESPACE_END
