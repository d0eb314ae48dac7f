// ext/core/call.cpp: one call of a callback
#include "call.h"

#include "bridge.h"
#include "handler.h"
#include "pause.h"
#include "payload.h"
#include "runtime.h"

#include <algorithm>
#include <new>

namespace aiobridge::core {
namespace {

// A coroutine, or another awaitable: its result is the call's.
bool is_awaitable(PyObject *object) noexcept {
    const auto *methods = Py_TYPE(object)->tp_as_async;
    return methods && methods->am_await;
}

// The exception in words: no Python object crosses.
class Words {
public:
    explicit Words(PyObject *exception) noexcept : type_(qualified_name(Py_TYPE(exception))) {
        clear_error();
        const Ref lines(guarded([&] { return PyObject_CallOneArg(names.format_exception, exception); }));
        const Ref nothing(lines ? PyUnicode_FromString("") : nullptr);
        traceback_ = Ref(nothing ? PyUnicode_Join(nothing.get(), lines.get()) : nullptr);
        clear_error();
        message_ = Ref(guarded([&] { return PyObject_Str(exception); }));
        clear_error();
    }
    void tell(const aiobridge_call_type &type, void *payload) const noexcept {
        const aiobridge_call_error error{sizeof error, AIOBRIDGE_ACCEPTED, AIOBRIDGE_OPEN,  0,
                                         text(type_),  text(message_),     text(traceback_)};
        type.error(payload, &error);
    }

private:
    static PyObject *qualified_name(PyTypeObject *type) noexcept {
        const Ref name(PyType_GetQualName(type)),
            module(guarded([=] { return PyObject_GetAttrString(reinterpret_cast<PyObject *>(type), "__module__"); }));
        if (!name || !module || PyUnicode_CompareWithASCIIString(module.get(), "builtins") == 0)
            return Ref::borrow(name.get()).release();
        return formatted("%S.%U", module.get(), name.get()).release();
    }
    static const char *text(const Ref &string) noexcept {
        const char *utf8 = string ? PyUnicode_AsUTF8(string.get()) : nullptr;
        clear_error();
        return utf8 ? utf8 : "";
    }
    Ref type_, message_, traceback_;
};

} // namespace

Call *Call::create(Callback &callback, const aiobridge_call_type &type, void *payload) noexcept {
    const auto alignment = std::max<std::size_t>(alignof(Call), type.payload->align);
    const auto offset = (sizeof(Call) + alignment - 1) / alignment * alignment;
    void *memory = ::operator new(offset + type.payload->size, std::align_val_t(alignment), std::nothrow);
    if (!memory)
        return nullptr;
    auto *call = new (memory) Call(callback, type);
    callback.retain();
    call->offset_ = offset;
    call->alignment_ = alignment;
    move_payload(*type.payload, call->payload(), payload);
    return call;
}

void *Call::payload() noexcept { return reinterpret_cast<unsigned char *>(this) + offset_; }

void Call::give_back(void *to) noexcept {
    move_payload(*type_.payload, to, payload());
    release();
}

void Call::release() noexcept {
    if (callback_.runtime().forked() || references_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    Callback &callback = callback_;
    const auto alignment = std::align_val_t(alignment_);
    this->~Call();
    ::operator delete(static_cast<void *>(this), alignment);
    callback.release();
}

void Call::end() noexcept { destroy_payload(*type_.payload, payload()); }

void Call::refuse(aiobridge_fate fate, aiobridge_reason reason) noexcept {
    AIOBRIDGE_PAUSE("call.refuse");
    if (type_.error) {
        const aiobridge_call_error error{sizeof error, fate, reason, 0, "", "", ""};
        type_.error(payload(), &error);
    }
    end();
    release();
}

void Call::discard() noexcept {
    AIOBRIDGE_PAUSE("call.discard");
    if (callback_.limit().is_set() && !callback_.limit().withdraw(*this))
        release(); // evicted
    else
        refuse(AIOBRIDGE_CLOSED, callback_.reason());
}

int Call::deliver(Bridge &) {
    AIOBRIDGE_PAUSE("call.deliver");
    if (!callback_.handler() || callback_.scope_is_left()) {
        discard();
        return 0;
    }
    if (callback_.limit().is_set()) {
        switch (callback_.limit().arrive(*this)) {
        case Limit::Arrival::abandoned: release(); return 0;
        case Limit::Arrival::wait: return 0;
        case Limit::Arrival::start: break;
        }
    }
    return run(this);
}

// Starts it, and while calls end at once, those that waited for a place.
int Call::run(Call *call) noexcept {
    Ref interrupt;
    while (call) {
        Callback &callback = call->callback_;
        callback.retain();
        const bool ended = call->start(interrupt);
        call = ended ? callback.next_call() : nullptr;
        callback.release();
    }
    if (!interrupt)
        return 0;
    set_exception(interrupt.get());
    return -1;
}

// False: a task runs it. KeyboardInterrupt and SystemExit end it, and go on from here.
bool Call::start(Ref &interrupt) noexcept {
    handler_ = callback_.handler();
    // References, because it may close the loop.
    const Ref function = handler_ ? function_of(as_handler(handler_.get())) : Ref();
    const Ref base = handler_ ? context_of(as_handler(handler_.get())) : Ref();
    if (!function || !base) { // closed, by another thread
        handler_ = Ref();
        refuse(AIOBRIDGE_CLOSED, callback_.reason());
        return true;
    }
    Ref result;
    {
        AIOBRIDGE_PAUSE("call.start");
        const InContext context(base.get());
        const Ref arguments(context ? guarded([&] { return type_.arguments(payload()); }) : nullptr);
        if (arguments)
            result = Ref(guarded([&] { return PyObject_Call(function.get(), arguments.get(), nullptr); }));
        // In the context too: the task takes a copy of it.
        if (result && is_awaitable(result.get())) {
            const Ref task(guarded([&] { return PyObject_CallOneArg(names.ensure_future, result.get()); }));
            if (task && watch(task.get())) {
                if (callback_.bridge().is_closed()) // meanwhile, and without us in the handler's list
                    loop_closed(callback_.reason(), true);
                return false;
            }
            result = Ref();
        }
    }
    Ref exception;
    if (!result) {
        exception = take_exception();
        if (must_pass(exception.get()))
            interrupt = Ref::borrow(exception.get());
    }
    if (Ref passing = finish(std::move(result), std::move(exception), false))
        interrupt = std::move(passing);
    return true;
}

// The task's end is the call's. False with a Python error.
bool Call::watch(PyObject *task) noexcept {
    static PyMethodDef method{"done", done, METH_O, nullptr};
    const Ref capsule(PyCapsule_New(this, nullptr, forgotten));
    if (!capsule)
        return false;
    retain();
    const Ref callback = new_function(&method, capsule.get());
    if (!callback || !guarded([&] { return Ref(PyObject_CallMethod(task, "add_done_callback", "O", callback.get())); }))
        return false;
    callback_.add_running(*this, task);
    return true;
}

PyObject *Call::done(PyObject *capsule, PyObject *task) noexcept {
    auto *call = static_cast<Call *>(PyCapsule_GetPointer(capsule, nullptr));
    Callback &callback = call->callback_;
    Ref held;
    if (!callback.remove_running(*call, held))
        Py_RETURN_NONE; // its loop was closed before
    callback.retain();
    AIOBRIDGE_PAUSE("call.done");
    Ref result(guarded([&] { return PyObject_CallMethodNoArgs(task, names.result); }));
    Ref exception = result ? Ref() : take_exception();
    const Ref passing = call->finish(std::move(result), std::move(exception), true);
    const int status = run(callback.next_call());
    callback.release();
    if (status == 0 && passing)
        set_exception(passing.get());
    if (status != 0 || passing)
        return nullptr;
    Py_RETURN_NONE;
}

void Call::forgotten(PyObject *capsule) noexcept {
    const ErrorAside error;
    static_cast<Call *>(PyCapsule_GetPointer(capsule, nullptr))->release();
}

void Call::loop_closed(aiobridge_reason reason, bool drop_now) noexcept {
    Ref task;
    if (!callback_.remove_running(*this, task))
        return; // it has just ended
    Ref references[] = {std::move(task), std::move(handler_)};
    Runtime &runtime = callback_.runtime();
    refuse(AIOBRIDGE_CLOSED, reason);
    for (Ref &reference : references)
        if (!drop_now)
            drop_later(runtime, std::move(reference));
}

// Tells the native side, if it wants to know, or else the loop's exception handler. asyncio has told those who ask it
// of a task's KeyboardInterrupt or SystemExit, and so has the drain of a function's. Returns one that the handler
// itself raised.
Ref Call::finish(Ref result, Ref exception, bool of_task) noexcept {
    Ref passing;
    if (result && type_.value && guarded([&] { return type_.value(payload(), result.get()); }) != 0)
        exception = take_exception();
    if (exception && type_.error)
        Words(exception.get()).tell(type_, payload());
    else if (exception && !must_pass(exception.get()) &&
             !(of_task && PyErr_GivenExceptionMatches(exception.get(), names.cancelled_error)) &&
             report(exception.get()) != 0)
        passing = take_exception();
    const Ref handler = std::move(handler_);
    end();
    release();
    return passing;
}

// -1 with an error that must pass.
int Call::report(PyObject *exception) noexcept {
    const Ref loop = callback_.bridge().loop();
    const Ref function = function_of(as_handler(handler_.get()));
    const Ref message = formatted("%R, called by native code, raised", function ? function.get() : Py_None);
    const char *text = message ? PyUnicode_AsUTF8(message.get()) : nullptr;
    clear_error();
    if (loop)
        return call_exception_handler(loop.get(), text ? text : "a callback raised", exception, nullptr);
    set_exception(exception);
    tell_unraisable(nullptr);
    return 0;
}

} // namespace aiobridge::core
