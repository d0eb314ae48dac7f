// ext/core/runtime.cpp: what there is once in a process
#include "runtime.h"

#include "notifier.h"
#include "payload.h"
#include "python.h"
#include "room.h"

#include <new>
#include <string>

namespace aiobridge::core {
namespace {

// An error that nobody else can be told.
class Report final : public Deferred {
public:
    explicit Report(std::string_view message) : message_("aiobridge: ") { message_ += message; }
    void add(PyObject *exception) noexcept { exception_ = Ref(exception); }
    int run(PyObject *loop) override {
        if (loop)
            return call_exception_handler(loop, message_.c_str(), exception_.get(), nullptr);
        const Ref text = to_text(message_.c_str());
        const Ref arguments(text ? Py_BuildValue("(sO)", "%s", text.get()) : nullptr);
        const Ref method(arguments ? PyObject_GetAttrString(names.logger, "error") : nullptr);
        const Ref keywords(method && exception_ ? Py_BuildValue("{sO}", "exc_info", exception_.get()) : nullptr);
        if (!method || PyErr_Occurred() ||
            !guarded([&] { return Ref(PyObject_Call(method.get(), arguments.get(), keywords.get())); }))
            tell_unraisable(names.logger);
        return 0;
    }

private:
    std::string message_;
    Ref exception_;
};

// What a user wants to know who asks why nothing happens. Later, because handlers of loggers are foreign code.
class LogRecord final : public Deferred {
public:
    explicit LogRecord(std::string_view message) : message_(message) {}
    int run(PyObject *) override {
        const Ref text = to_text(message_.c_str());
        if (text && guarded([&] { return Ref(PyObject_CallMethod(names.logger, "debug", "sO", "%s", text.get())); }))
            return 0;
        return write_unraisable(names.logger);
    }

private:
    std::string message_;
};

// An error that could not end on the thread that dropped it.
class DroppedError final : public Deferred {
public:
    // Leaked if there is no room for it.
    DroppedError(const aiobridge_type &type, void *error) noexcept : type_(type), room_(type) {
        if (room_.get())
            move_payload(type, room_.get(), error);
    }
    int run(PyObject *) override {
        if (room_.get())
            destroy_payload(type_, room_.get());
        return 0;
    }

private:
    const aiobridge_type &type_;
    Room room_;
};

} // namespace

Runtime::Runtime() : hooks("hooks", Hook::serve), notifier("notify", notify_loop) {}

void Runtime::start() { current_.store(new Runtime, std::memory_order_release); }

void Runtime::defer(Deferred *work) noexcept { deferred_.post(work); }

void Runtime::drop_error(const aiobridge_type &type, void *error) noexcept {
    if (holds_gil())
        destroy_payload(type, error);
    else if (auto *work = new (std::nothrow) DroppedError(type, error))
        defer(work); // after the interpreter's exit for ever
}

int Runtime::run_deferred(PyObject *loop) {
    Batch batch = deferred_.take();
    if (batch.empty())
        return 0;
    Ref interrupt;
    while (Node *node = batch.pop()) {
        const std::unique_ptr<Deferred> work(static_cast<Deferred *>(node));
        if (work->run(loop) != 0)
            interrupt = take_exception();
    }
    if (!interrupt)
        return 0;
    set_exception(interrupt.get());
    return -1;
}

void Runtime::report(std::string_view message, PyObject *exception) noexcept {
    try {
        auto *work = new Report(message);
        work->add(exception);
        defer(work);
    } catch (const std::bad_alloc &) {
        // The exception is left alive: its end needs the GIL.
    }
}

void Runtime::log(std::string_view message) noexcept {
    try {
        defer(new LogRecord(message));
    } catch (const std::bad_alloc &) {
        // Then without it.
    }
}

void Runtime::notify_waiters() noexcept {
    // Through the lock, or the notice could fall between a waiter's look at the word and its sleep.
    {
        const std::lock_guard lock(waiting_);
    }
    waiters_.notify_all();
}

} // namespace aiobridge::core
