// benchmarks/native/src/snippet.h: what is written by hand where nothing better is at hand
#pragma once

#include <pybind11/pybind11.h>

/// The first time, makes a state for this thread, so that taking the GIL later makes none. It is never deleted.
inline void keep_thread_state() {
    thread_local bool kept = false;
    if (!kept) {
        new pybind11::gil_scoped_acquire;
        new pybind11::gil_scoped_release;
    }
    kept = true;
}

/// A future of asyncio's, completed from any thread: it takes the GIL for each completion.
class HandWrittenPromise {
public:
    HandWrittenPromise() : loop_(running_loop()), future_(loop_.attr("create_future")()) {}
    pybind11::object future() const { return future_; }
    /// Deletes itself, because the references have to go where the GIL is.
    template <class T> void set(T value) {
        const pybind11::gil_scoped_acquire gil;
        loop_.attr("call_soon_threadsafe")(future_.attr("set_result"), value);
        delete this;
    }

private:
    ~HandWrittenPromise() = default;
    static pybind11::object running_loop() {
        static auto *function = new pybind11::object(pybind11::module_::import("asyncio").attr("get_running_loop"));
        return (*function)();
    }
    pybind11::object loop_, future_;
};

/// Calls `queue.put_nowait` on a loop, from any thread: it takes the GIL for each event.
class HandWrittenWriter {
public:
    HandWrittenWriter(const pybind11::object &loop, const pybind11::object &queue)
        : call_(loop.attr("call_soon_threadsafe")), put_(queue.attr("put_nowait")) {}
    template <class T> void push(T value) {
        const pybind11::gil_scoped_acquire gil;
        call_(put_, value);
    }

private:
    pybind11::object call_, put_;
};
