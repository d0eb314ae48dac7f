// ext/core/callback.cpp: a Python callable that native threads hold and call
#include "callback.h"

#include "bridge.h"
#include "call.h"
#include "deadline.h"
#include "handler.h"
#include "pause.h"
#include "runtime.h"

#include <new>
#include <vector>

namespace aiobridge::core {

Callback::Callback(Bridge &bridge) noexcept : runtime_(bridge.runtime), bridge_(bridge) { bridge_.retain(); }
Callback::~Callback() { bridge_.release(); }

Callback *Callback::create(PyObject *callable) noexcept {
    if (!PyCallable_Check(callable)) {
        raise(PyExc_TypeError, "aiobridge: a callback is a function or a coroutine function, not %R", callable);
        return nullptr;
    }
    const BridgeRef bridge = Bridge::of_running_loop();
    if (!bridge) {
        if (!PyErr_Occurred())
            raise(
                PyExc_RuntimeError,
                "the callback %R has no loop to run on, because none runs in this thread; call the function that takes "
                "it from a coroutine",
                callable);
        return nullptr;
    }
    auto *callback = new (std::nothrow) Callback(*bridge);
    if (!callback) {
        PyErr_NoMemory();
        return nullptr;
    }
    const Ref handler = make_handler(*callback, callable);
    if (!handler) {
        delete callback;
        return nullptr;
    }
    callback->handler_ = Ref::borrow(handler.get());
    static const ScopedKind kind{
        [](void *self) noexcept { static_cast<Callback *>(self)->retain(); },
        [](void *self) noexcept { static_cast<Callback *>(self)->release(); },
        [](void *self, PyObject *) noexcept { return static_cast<Callback *>(self)->leave_scope(); },
        [](void *self) noexcept { return static_cast<Callback *>(self)->describe(); },
    };
    if (callback->ends_.enter(kind, callback) != 0) {
        callback->let_go();
        return nullptr;
    }
    Member &member = as_handler(handler.get())->member;
    if (!bridge->link(member))
        member.loop_closed(handler.get(), AIOBRIDGE_LOOP_CLOSED, true);
    return callback;
}

Ref Callback::handler() noexcept {
    const std::lock_guard lock(lock_);
    return Ref::borrow(handler_.get());
}

void Callback::add_running(Call &call, PyObject *task) noexcept {
    ends_.open(); // a scope waits for the task
    const std::lock_guard lock(lock_);
    call.running.task = Ref::borrow(task);
    call.running.next = first_running_;
    if (first_running_)
        first_running_->running.previous = &call;
    first_running_ = &call;
}

bool Callback::remove_running(Call &call, Ref &task) noexcept {
    {
        const std::lock_guard lock(lock_);
        Running &running = call.running;
        if (!running.task)
            return false;
        task = std::move(running.task);
        (running.previous ? running.previous->running.next : first_running_) = running.next;
        if (running.next)
            running.next->running.previous = running.previous;
        running.previous = running.next = nullptr;
    }
    ends_.close();
    return true;
}

void Callback::end_running(aiobridge_reason reason, bool drop_now) noexcept {
    for (;;) {
        Call *call = nullptr;
        {
            const std::lock_guard lock(lock_);
            call = first_running_;
            if (!call)
                return;
            call->retain();
        }
        call->loop_closed(reason, drop_now);
        call->release();
    }
}

// On the task's own loop, which another thread may run: a context, and with it a scope, can be copied to there.
Ref Callback::cancel(PyObject *task) noexcept {
    if (bridge_.runs_here())
        return guarded([&] { return Ref(PyObject_CallMethodNoArgs(task, names.cancel)); });
    const Ref loop = bridge_.loop(), method(guarded([=] { return PyObject_GetAttr(task, names.cancel); }));
    if (!loop || !method)
        return loop ? Ref() : Ref::borrow(Py_None); // a loop that is gone has no tasks
    PyObject *arguments[] = {loop.get(), method.get()};
    return guarded([&] { return Ref(PyObject_VectorcallMethod(names.call_soon_threadsafe, arguments, 2, nullptr)); });
}

// Cancels the tasks that run calls. -1 with an error that must pass.
int Callback::cancel_running() noexcept {
    std::vector<Ref> tasks;
    try {
        const std::lock_guard lock(lock_);
        for (Call *call = first_running_; call; call = call->running.next)
            tasks.push_back(Ref::borrow(call->running.task.get()));
    } catch (const std::bad_alloc &) {
        PyErr_NoMemory();
        tell_unraisable(nullptr); // those that are missing go on
    }
    Ref interrupt;
    // Foreign code from here on, which may end calls.
    for (const Ref &task : tasks)
        if (!cancel(task.get()) && write_unraisable(task.get()) != 0)
            interrupt = take_exception();
    if (!interrupt)
        return 0;
    set_exception(interrupt.get());
    return -1;
}

PyObject *Callback::describe() noexcept {
    const Ref held = handler(), function = held ? function_of(as_handler(held.get())) : Ref();
    Ref task;
    {
        const std::lock_guard lock(lock_);
        if (first_running_)
            task = Ref::borrow(first_running_->running.task.get());
    }
    if (!function || !task)
        return PyUnicode_FromString("a callback"); // it has ended since
    // Their reprs are foreign code, which may end both.
    return formatted("the callback %R, of which a call is still run by %R", function.get(), task.get()).release();
}

void Callback::close_own_end() noexcept {
    {
        const std::lock_guard lock(lock_);
        if (std::exchange(let_go_, true))
            return;
    }
    ends_.close();
}

int Callback::leave_scope() noexcept {
    left_.store(true, std::memory_order_relaxed);
    limit_.close();
    while (Call *call = limit_.take_waiting())
        call->refuse(AIOBRIDGE_CLOSED, AIOBRIDGE_SCOPE_EXIT);
    const int status = cancel_running();
    close_own_end();
    return status;
}

void Callback::release() noexcept {
    // A child process frees nothing it inherited.
    if (runtime_.forked() || references_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    delete this;
}

// The function goes on its loop, after the calls that were posted before. No allocation, since destructors come here;
// and if the loop is gone, so is the function.
void Callback::release_handle() noexcept {
    if (handles_.fetch_sub(1, std::memory_order_acq_rel) != 1 || runtime_.forked())
        return;
    AIOBRIDGE_PAUSE("callback.drop");
    if (!bridge_.post(this))
        release();
}

// All calls have come before. Those that wait for a place still need the function; they do not hold it themselves,
// because a producer that evicts one frees it without the GIL (but there is no producer any more).
int Callback::deliver(Bridge &) {
    AIOBRIDGE_PAUSE("callback.end");
    const bool waiting = limit_.is_set() && limit_.has_waiting();
    bool ending = false;
    {
        const std::lock_guard lock(lock_);
        ending = ending_ = waiting || first_running_;
    }
    if (!ending)
        let_go();
    return 0;
}

void Callback::let_go() noexcept {
    Ref dropped;
    {
        const std::lock_guard lock(lock_);
        dropped = std::move(handler_);
    }
    close_own_end();
    release();
}

Call *Callback::next_call() noexcept {
    Call *call = limit_.is_set() ? limit_.next() : nullptr;
    if (call)
        return call;
    bool ended = false;
    {
        const std::lock_guard lock(lock_);
        ended = !first_running_ && std::exchange(ending_, false);
    }
    if (ended)
        let_go();
    return nullptr;
}

void Callback::loop_closed() noexcept {
    Ref dropped;
    bool ending = false;
    {
        const std::lock_guard lock(lock_);
        dropped = std::move(handler_);
        ending = std::exchange(ending_, false);
    }
    close_own_end();
    if (ending)
        release();
}

void Callback::discard() noexcept { release(); }

aiobridge_reason Callback::reason() const noexcept {
    if (const auto closed = runtime_.closed())
        return closed;
    if (bridge_.is_closed())
        return AIOBRIDGE_LOOP_CLOSED;
    if (scope_is_left())
        return AIOBRIDGE_SCOPE_EXIT;
    return overflowed_.load(std::memory_order_relaxed) ? AIOBRIDGE_FAILED : AIOBRIDGE_OPEN;
}

int Callback::set_limit(const aiobridge_limit &limit) noexcept {
    if (limit.running == 0 || limit.waiting == 0)
        return -2;
    if (limit.overflow > AIOBRIDGE_UNBOUNDED || limit.overflow == AIOBRIDGE_CONFLATE)
        return -3;
    if (limit_.is_set() || called_.load(std::memory_order_relaxed))
        return -6;
    limit_.set(limit);
    return 0;
}

aiobridge_fate Callback::call(const aiobridge_call_type &type, void *payload) noexcept {
    if (reason() != AIOBRIDGE_OPEN)
        return AIOBRIDGE_CLOSED;
    const bool on_the_loop = bridge_.thread() == std::this_thread::get_id();
    // Whoever holds the GIL, or is the loop, and waits for the call keeps it from being made.
    if ((type.flags & AIOBRIDGE_CALL_WAITED) && (on_the_loop || holds_gil()))
        return AIOBRIDGE_WOULD_DEADLOCK;
    Call *call = Call::create(*this, type, payload);
    if (!call)
        return AIOBRIDGE_NO_MEMORY;
    called_.store(true, std::memory_order_relaxed);
    const aiobridge_fate fate = limit_.is_set() ? admit(*call) : aiobridge_fate{AIOBRIDGE_ACCEPTED};
    if (fate > AIOBRIDGE_MERGED) {
        call->give_back(payload);
        return fate;
    }
    AIOBRIDGE_PAUSE("callback.post");
    if (bridge_.post(call))
        return fate;
    AIOBRIDGE_PAUSE("callback.refused");
    if (limit_.is_set() && !limit_.withdraw(*call)) {
        call->release();
        return fate;
    }
    call->give_back(payload);
    return AIOBRIDGE_CLOSED;
}

aiobridge_fate Callback::admit(Call &call) noexcept {
    Limit::Admitted admitted = limit_.admit(call);
    if (admitted.fate == AIOBRIDGE_FULL && limit_.overflow() == AIOBRIDGE_BLOCK) {
        if (bridge_.thread() == std::this_thread::get_id())
            return AIOBRIDGE_WOULD_DEADLOCK;
        const WithoutGil released;
        AIOBRIDGE_PAUSE("callback.block");
        admitted = limit_.admit_later(call, deadline_after(limit_.timeout()));
    }
    if (admitted.evicted) {
        admitted.evicted->refuse(AIOBRIDGE_EVICTED_OLDEST, AIOBRIDGE_OPEN);
        if (admitted.free_evicted)
            admitted.evicted->release();
    }
    if (admitted.overflowed) {
        overflowed_.store(true, std::memory_order_relaxed);
        runtime_.report("a callback overflowed, and is closed: more calls of it waited than its limit allows");
        bridge_.nudge();
    }
    return admitted.fate;
}

} // namespace aiobridge::core
