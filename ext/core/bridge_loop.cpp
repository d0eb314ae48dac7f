// ext/core/bridge_loop.cpp: what a bridge asks of its loop: to watch the descriptor, to call the drain
#include "bridge.h"

#include "drain.h"
#include "pause.h"

#include <memory>
#include <system_error>

namespace aiobridge::core {
namespace {

constexpr double never = 1e9; // in seconds; a loop cannot wait for ever

// asyncio's Handle takes part in garbage collection, so calling the loop can start one, and with it foreign finalizers
// on our thread.
class CollectorOff {
public:
    CollectorOff() noexcept : was_on_(PyGC_Disable()) {}
    ~CollectorOff() {
        if (was_on_)
            PyGC_Enable();
    }
    CollectorOff(const CollectorOff &) = delete;
    CollectorOff &operator=(const CollectorOff &) = delete;

private:
    const int was_on_;
};

// Contextvars of whoever happens to use the loop first must not be those in which every result is converted.
class EmptyContext {
public:
    EmptyContext() noexcept : context_(guarded([] { return PyContext_New(); })) {
        if (context_ && PyContext_Enter(context_.get()) != 0)
            context_ = Ref();
    }
    ~EmptyContext() {
        if (context_) {
            const ErrorAside error;
            PyContext_Exit(context_.get());
        }
    }
    explicit operator bool() const noexcept { return static_cast<bool>(context_); }

private:
    Ref context_;
};

} // namespace

int Bridge::ask_debug(PyObject *loop) {
    const Ref answer = guarded([&] { return Ref(PyObject_CallMethodNoArgs(loop, names.get_debug)); });
    if (answer)
        debug = answer.get() != Py_False;
    return answer ? 0 : -1;
}

int Bridge::ask_debug_at_first(PyObject *loop) {
    if (ask_debug(loop) == 0)
        return 0;
    const Ref error = take_exception();
    if (!must_pass(error.get()))
        return 0; // a loop that has no debug mode
    set_exception(error.get());
    return -1;
}

int Bridge::watch(PyObject *loop, PyObject *reader, WakeMode wanted) {
    // With `call_soon` the descriptor is never written. It is watched all the same, because the loop lets go of its
    // reader when it is closed, and an idle loop has nothing else of ours to let go of.
    const Ref descriptor(PyLong_FromLong(signal.descriptor()));
    bool watched = false;
    {
        const EmptyContext context;
        if (!context || !descriptor)
            return -1;
        PyObject *arguments[] = {loop, descriptor.get(), reader};
        const Ref done =
            guarded([&] { return Ref(PyObject_VectorcallMethod(names.add_reader, arguments, 3, nullptr)); });
        watched = static_cast<bool>(done);
    }
    if (!watched) {
        // NotImplementedError from loops without readers (Windows' Proactor); others raise what they like. But a loop
        // that had no memory has readers, and will have them the next time.
        Ref error = take_exception();
        const bool has_none = !must_pass(error.get()) && !PyErr_GivenExceptionMatches(error.get(), PyExc_MemoryError);
        // A timer that never comes is let go by a loop that is closed, as a reader is.
        if (has_none) {
            const EmptyContext context;
            watched = static_cast<bool>(
                Ref(guarded([&] { return PyObject_CallMethod(loop, "call_later", "dO", never, reader); })));
            error = watched ? Ref() : take_exception();
        }
        if (!watched)
            disarm_reader(reader);
        if (!has_none || (error && must_pass(error.get()))) {
            set_exception(error.get());
            return -1;
        }
        has_readers_ = false;
        if (wanted == WakeMode::fd)
            runtime.figures.fd_fallbacks.fetch_add(1, std::memory_order_relaxed);
        wanted = WakeMode::call_soon;
    }
    mode_ = wanted;
    if (mode_ == WakeMode::fd) {
        waker_ = std::make_unique<SignalWaker>(signal);
        return 0;
    }
    waker_ = std::make_unique<NotifierWaker>(runtime.notifier, this,
                                             [](void *owner) { static_cast<Bridge *>(owner)->retain(); });
    try {
        runtime.notifier.start();
    } catch (const std::system_error &error) {
        const auto unwatch = [&] { return Ref(PyObject_CallMethod(loop, "remove_reader", "O", descriptor.get())); };
        if (has_readers_ && !guarded(unwatch) && write_unraisable(loop) != 0)
            return -1;
        raise(PyExc_RuntimeError,
              "aiobridge cannot serve %R: its notifier thread cannot be started (%s); "
              "aiobridge.configure(wakeup='fd') needs no thread",
              loop, error.what());
        return -1;
    }
    return 0;
}

void Bridge::call_loop() {
    Ref loop = this->loop();
    const Ref callable = drain();
    if (!loop || !callable) {
        close(AIOBRIDGE_LOOP_CLOSED, false);
        return;
    }
    const CollectorOff collector;
    AIOBRIDGE_PAUSE("bridge.call");
    PyObject *arguments[] = {loop.get(), callable.get()};
    if (!guarded([&] { return Ref(PyObject_VectorcallMethod(names.call_soon_threadsafe, arguments, 2, nullptr)); })) {
        if (give_up(loop.get(), false) != 0)
            tell_unraisable(loop.get()); // on this thread nobody is to be interrupted
    } else if (says_if_closed_) {
        // Some loops take calls after their end, and never run them. One that cannot be asked is asked once.
        const int closed = loop_says(loop.get(), names.is_closed);
        if (closed > 0)
            close(AIOBRIDGE_LOOP_CLOSED, false);
        if (closed < 0) {
            says_if_closed_ = false;
            tell_unraisable(loop.get());
        }
    }
    if (Py_REFCNT(loop.get()) == 1)
        drop_later(runtime, std::move(loop));
}

int Bridge::give_up(PyObject *loop, bool drop_now) {
    // Usually RuntimeError, Event loop is closed; other loops raise other things. Whatever it was, nothing can be
    // delivered to this loop.
    const Ref error = take_exception();
    const int closed = loop_says(loop, names.is_closed);
    const Ref passing = closed < 0 && write_unraisable(loop) != 0 ? take_exception() : Ref();
    if (closed <= 0) {
        const Ref text = formatted("a loop is given up, because it could not be called: %R", error.get());
        const char *utf8 = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
        clear_error();
        runtime.report(utf8 ? utf8 : "a loop is given up, because it could not be called");
    }
    close(AIOBRIDGE_LOOP_CLOSED, drop_now);
    if (!passing)
        return 0;
    set_exception(passing.get());
    return -1;
}

} // namespace aiobridge::core
