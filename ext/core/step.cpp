// ext/core/step.cpp: how a consumer waits for events
//
// An event stays in the buffer until the very step in which the consumer gets it. A wake only says "look again". So a
// cancelled __anext__ loses nothing, however late the cancel comes.
#include "channel.h"
#include "collect.h"
#include "future.h"
#include "next.h"
#include "pause.h"
#include "stream.h"

namespace aiobridge::core {
namespace {

using Clock = std::chrono::steady_clock;

// A consumer that always finds events would never let the loop turn: after so long it yields once.
constexpr std::chrono::milliseconds run_limit{1};
constexpr std::size_t events_between_clock_reads = 16;

bool should_yield(Stream *stream, const Request &request) noexcept {
    const Locked lock(as_object(stream));
    if (stream->run == 0)
        stream->run_started = Clock::now();
    const bool look = request.limit > 1 || stream->run % events_between_clock_reads == events_between_clock_reads - 1;
    ++stream->run; // a batch adds its events
    return look && Clock::now() - stream->run_started >= run_limit;
}

// How many events to wait for: one; or from then on, until the deadline, a whole batch.
std::size_t wanted_by(Next *next, Channel &channel) noexcept {
    if (next->request.delay.count() == 0)
        return 1;
    if (channel.size() == 0) {
        next->deadline = {};
        return 1;
    }
    if (next->deadline == Clock::time_point{})
        next->deadline = Clock::now() + next->request.delay;
    // At the high watermark producers stop, so there may never be more.
    return Clock::now() < next->deadline ? std::min(next->request.limit, channel.high_watermark()) : 1;
}

PyObject *end_wait(PyObject *wait, PyObject *) noexcept {
    if (future_finish_wait(as_future(wait), false) != 0)
        return nullptr;
    Py_RETURN_NONE;
}
PyMethodDef end_wait_method{"end_wait", end_wait, METH_NOARGS, nullptr};

// The loop's timer can be early by its resolution; then the next step sets another one.
int set_timer(Stream *stream, PyObject *wait, PyObject *loop, Clock::time_point deadline) noexcept {
    const double seconds = std::max(std::chrono::duration<double>(deadline - Clock::now()).count(), 0.0);
    const Ref delay(PyFloat_FromDouble(seconds));
    const Ref callback = new_function(&end_wait_method, wait);
    if (!delay || !callback)
        return -1;
    PyObject *arguments[] = {loop, delay.get(), callback.get()};
    Ref handle = guarded([&] { return Ref(PyObject_VectorcallMethod(names.call_later, arguments, 3, nullptr)); });
    if (!handle)
        return -1;
    const Locked lock(as_object(stream));
    handle = Ref(std::exchange(stream->timer, handle.release())); // dropped after the lock
    return 0;
}

// If it is this one that waits; null: whoever it is.
void stop_waiting(Stream *stream, Next *next) noexcept {
    Ref wait, timer;
    {
        const Locked lock(as_object(stream));
        if (next && stream->active != next)
            return;
        stream->active = nullptr;
        wait = Ref(as_object(std::exchange(stream->wait, nullptr)));
        timer = Ref(std::exchange(stream->timer, nullptr));
    }
    if (!timer)
        return;
    const ErrorAside error;
    if (!guarded([&] { return Ref(PyObject_CallMethodNoArgs(timer.get(), names.cancel)); }))
        tell_unraisable(timer.get());
}

// The task sleeps until the channel's wake, or the deadline.
PyObject *wait_for_events(Stream *stream, Next *next) noexcept {
    PyObject *loop = running_loop();
    if (!loop || !stream->bridge->is_loop(loop)) {
        const Ref own = stream->bridge->loop();
        return raise(PyExc_RuntimeError,
                     "%R belongs to the loop %R and is iterated in %R; iterate it where it was made", as_object(stream),
                     own ? own.get() : Py_None, loop ? loop : Py_None);
    }
    Future *wait = make_wait(*stream->bridge);
    if (!wait)
        return nullptr;
    set_blocking(wait, true);
    Ref yielded(as_object(wait)), old;
    {
        const Locked lock(as_object(stream));
        stream->run = 0;
        stream->active = next;
        old = Ref(as_object(std::exchange(stream->wait, as_future(Ref::borrow(yielded.get()).release()))));
    }
    if (next->deadline != Clock::time_point{} && set_timer(stream, yielded.get(), loop, next->deadline) != 0) {
        const ErrorAside error;
        forget_next(stream, next);
        return nullptr;
    }
    return yielded.release();
}

} // namespace

bool refuse_consumer(Stream *stream, Next *by) noexcept {
    PyObject *object = as_object(stream);
    if (stream->channel->runtime().forked()) {
        raise(names.closed_error, "%R was made before this process was forked; make it again here", object);
        return true;
    }
    Ref wait;
    {
        const Locked lock(object);
        if (stream->active == by)
            return false;
        wait = Ref::borrow(as_object(stream->wait));
    }
    // One that was cancelled, or woken, has the stream no more, even if its task has not run since: it may never come
    // again, and yet be kept, by the traceback of what ended it.
    if (!wait || !is_pending(as_future(wait.get())))
        return false;
    raise(PyExc_RuntimeError,
          "%R is being iterated by another task; a stream has one consumer at a time, so have one task iterate it and "
          "pass the events on",
          object);
    return true;
}

void forget_next(Stream *stream, Next *next) noexcept { stop_waiting(stream, next); }

PySendResult step_next(Next *next, Stream *stream, PyObject **out) noexcept {
    *out = nullptr;
    if (refuse_consumer(stream, next))
        return PYGEN_ERROR;
    stop_waiting(stream, nullptr);
    for (;;) {
        if (should_yield(stream, next->request)) {
            // A bare yield: the task goes on in the loop's next turn.
            const Locked lock(as_object(stream));
            stream->run = 0;
            *out = Ref::borrow(Py_None).release();
            return PYGEN_NEXT;
        }
        AIOBRIDGE_PAUSE("step.look");
        const std::size_t wanted = wanted_by(next, *stream->channel);
        if (wanted == 1 || !stream->channel->park(wanted)) {
            if ((*out = collect(stream, next->request)))
                return PYGEN_RETURN;
            if (PyErr_Occurred())
                return PYGEN_ERROR;
            if (wanted != 1 || !stream->channel->park(1))
                continue;
        }
        AIOBRIDGE_PAUSE("step.wait");
        *out = wait_for_events(stream, next);
        return *out ? PYGEN_NEXT : PYGEN_ERROR;
    }
}

} // namespace aiobridge::core
