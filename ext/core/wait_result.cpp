// ext/core/wait_result.cpp: Future.result() where no loop can bring the result: it waits
#include "wait_result.h"

#include "operation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

namespace aiobridge::core {
namespace {

// 1 if another thread runs the loop: then its results will come without us. 0, or -1 with an error. A loop without
// readers may have been closed unnoticed.
int runs_elsewhere(Bridge &bridge) noexcept {
    const Ref loop = bridge.loop();
    const int closed = loop ? loop_says(loop.get(), names.is_closed) : 1;
    if (closed < 0)
        return -1;
    if (closed)
        bridge.close(AIOBRIDGE_LOOP_CLOSED, true);
    return loop && running_loop() != loop.get() ? loop_says(loop.get(), names.is_running) : 0;
}

// By another thread.
bool is_resolving(Future *future) noexcept {
    const Locked lock(as_object(future));
    return future->resolving;
}

} // namespace

int wait_for_result(Future *future, PyObject *timeout) noexcept {
    using Clock = std::chrono::steady_clock;
    auto deadline = Clock::time_point::max();
    if (timeout && timeout != Py_None) {
        const double seconds = guarded([&] { return PyFloat_AsDouble(timeout); });
        if (seconds == -1.0 && PyErr_Occurred())
            return -1;
        if (std::isnan(seconds)) {
            raise(PyExc_ValueError, "%R: timeout is not a number of seconds", as_object(future));
            return -1;
        }
        if (seconds < 1e9)
            deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                          std::chrono::duration<double>(std::max(seconds, 0.0)));
    }
    while (is_pending(future) && future->operation) {
        Operation &operation = *future->operation;
        if (operation.runtime().forked()) {
            raise(names.closed_error, "%R was made before this process was forked; make it again here",
                  as_object(future));
            return -1;
        }
        Bridge *bridge = bridge_of(future);
        const int elsewhere = bridge ? runs_elsewhere(*bridge) : running_loop() == nullptr;
        if (elsewhere <= 0)
            return elsewhere;
        if (!bridge && operation.is_ready() && !is_resolving(future))
            return future_resolve(future, false);
        if (operation.runtime().closed() && !operation.is_ready()) {
            raise(names.closed_error, "%R cannot be completed any more, because the interpreter exits",
                  as_object(future));
            return -1;
        }
        const auto now = Clock::now();
        if (now >= deadline) {
            raise(PyExc_TimeoutError, "%R was not done in time", as_object(future));
            return -1;
        }
        // In slices, because a signal does not end a wait on a condition variable.
        const auto slice = std::min(deadline, now + look_interval);
        const bool resolving = is_resolving(future);
        guarded([&] {
            PyThreadState *state = PyEval_SaveThread();
            if (resolving)
                std::this_thread::sleep_for(std::chrono::milliseconds(1)); // another thread is converting it
            else
                operation.wait(slice);
            PyEval_RestoreThread(state);
            return true;
        });
        if (guarded([] { return PyErr_CheckSignals(); }) != 0) // which may collect garbage, too
            return -1;
    }
    return 0;
}

} // namespace aiobridge::core
