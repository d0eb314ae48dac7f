// ext/core/bridge.cpp: the life of a bridge, from the loop's first use of us to its end
#include "bridge.h"

#include "drain.h"

#include <cstdio>
#include <new>
#include <system_error>
#include <unordered_map>
#include <vector>

namespace aiobridge::core {
namespace {

constexpr double never = 1e9; // in seconds; a loop cannot wait for ever

// GIL. Open bridges by the address of their loop, which cannot be another loop's while the weak reference lives. Never
// destroyed; a child process starts with a new one.
std::unordered_map<PyObject *, Bridge *> *bridges = new std::unordered_map<PyObject *, Bridge *>;

// A reference that must not be dropped where we are.
class DropLater final : public Deferred {
public:
    int run(PyObject *) override {
        object = Ref();
        return 0;
    }
    Ref object;
};

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
    EmptyContext() noexcept : context_(PyContext_New()) {
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

// Leaks the object when there is no memory for the note: that is better than running foreign code on this thread.
void drop_later(Runtime &runtime, Ref object) noexcept {
    auto *work = new (std::nothrow) DropLater;
    if (!work) {
        object.release();
        return;
    }
    work->object = std::move(object);
    runtime.defer(work);
}

Bridge::Bridge(PyObject *loop, PyObject *loop_reference)
    : runtime(Runtime::current()), loop_key_(loop), loop_reference_(loop_reference) {
    members_.previous = members_.next = &members_;
}

// Any thread: the Python objects went with close().
Bridge::~Bridge() = default;

void Bridge::release() noexcept {
    if (runtime.forked() || references_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    delete this;
}

Bridge *Bridge::find(PyObject *loop) noexcept {
    const auto found = bridges->find(loop);
    if (found == bridges->end())
        return nullptr;
    Bridge *bridge = found->second;
    if (bridge->loop().get() == loop && !bridge->is_closed())
        return bridge;
    // The address is a new loop's. The old one went unnoticed, because it had no readers.
    bridge->close(AIOBRIDGE_LOOP_CLOSED, true);
    return nullptr;
}

Bridge *Bridge::of_running_loop() {
    PyObject *loop = running_loop();
    return loop ? of(loop) : nullptr;
}

Bridge *Bridge::of(PyObject *loop) {
    if (Bridge *bridge = find(loop))
        return bridge;
    Runtime &runtime = Runtime::current();
    if (runtime.run_deferred(loop) != 0)
        return nullptr;
    return make(loop, runtime.wake_mode);
}

Bridge *Bridge::make(PyObject *loop, WakeMode mode) {
    Runtime &runtime = Runtime::current();
    if (runtime.closed()) {
        raise(names.closed_error, "aiobridge: %R cannot use native results any more, because the interpreter exits",
              loop);
        return nullptr;
    }
    Ref reference(PyWeakref_NewRef(loop, nullptr));
    if (!reference)
        return nullptr;
    Bridge *bridge = nullptr;
    const auto close = [&] {
        const ErrorAside error;
        bridge->close(AIOBRIDGE_LOOP_CLOSED, true);
        bridge->release();
    };
    try {
        bridge = new Bridge(loop, reference.get());
        reference.release();
        bridge->drain_ = Ref(make_drain(*bridge));
        const Ref reader(make_reader(*bridge));
        const bool served = bridge->drain_ && reader && bridge->ask_debug_at_first(loop) == 0 &&
                            bridge->watch(loop, reader.get(), mode) == 0;
        if (!served) {
            close();
            return nullptr;
        }
        bridges->emplace(loop, bridge);
        bridge->log(bridge->mode_ == WakeMode::fd ? "is served, and woken by its descriptor"
                                                  : "is served, and woken with call_soon_threadsafe");
        bridge->release(); // the drain holds it from now on, until it is closed
        return bridge;
    } catch (const std::system_error &error) {
        PyErr_Format(PyExc_OSError, "aiobridge cannot serve %R: %s", loop, error.what());
    } catch (const std::bad_alloc &) {
        PyErr_NoMemory();
        if (bridge)
            close();
    }
    return nullptr;
}

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
        if (has_readers_)
            Ref(PyObject_CallMethod(loop, "remove_reader", "O", descriptor.get()));
        PyErr_Format(PyExc_RuntimeError,
                     "aiobridge cannot serve %R: its notifier thread cannot be started (%s); "
                     "aiobridge.configure(wakeup='fd') needs no thread",
                     loop, error.what());
        return -1;
    }
    return 0;
}

bool Bridge::post(Item *item) noexcept {
    if (runtime.closed())
        return false;
    switch (inbox.post(item)) {
    case Posted::refused: return false;
    case Posted::wake:
        runtime.figures.wakes.fetch_add(1, std::memory_order_relaxed);
        waker_->wake();
        break;
    case Posted::queued: break;
    }
    return true;
}

void Bridge::nudge() noexcept {
    if (!runtime.closed() && inbox.arm())
        waker_->wake();
}

void Bridge::nudge_any() noexcept {
    for (const auto &[loop, bridge] : *bridges)
        if (!bridge->is_closed())
            return bridge->nudge();
}

Ref Bridge::loop_text(const Bridge *bridge) noexcept {
    if (!bridge)
        return Ref(PyUnicode_FromString("no loop yet"));
    // Not its own repr, which is foreign code and long.
    const Ref loop = bridge->loop();
    return Ref(loop ? PyUnicode_FromFormat("loop %s at %p", Py_TYPE(loop.get())->tp_name, loop.get())
                    : PyUnicode_FromString("its loop is closed"));
}

void Bridge::log(const char *what) noexcept {
    char text[128];
    std::snprintf(text, sizeof text, "the loop at %p %s", static_cast<void *>(loop_key_), what);
    runtime.log(text);
}

void Bridge::call_loop() {
    Ref loop = this->loop();
    const Ref callable = drain();
    if (!loop || !callable) {
        close(AIOBRIDGE_LOOP_CLOSED, false);
        return;
    }
    const CollectorOff collector;
    PyObject *arguments[] = {loop.get(), callable.get()};
    if (!guarded([&] { return Ref(PyObject_VectorcallMethod(names.call_soon_threadsafe, arguments, 2, nullptr)); }))
        give_up(loop.get(), false);
    if (Py_REFCNT(loop.get()) == 1)
        drop_later(runtime, std::move(loop));
}

void Bridge::give_up(PyObject *loop, bool drop_now) {
    // Usually RuntimeError, Event loop is closed; other loops raise other things. Whatever it was, nothing can be
    // delivered to this loop.
    const Ref error = take_exception();
    const Ref closed = guarded([&] { return Ref(PyObject_CallMethod(loop, "is_closed", nullptr)); });
    if (closed.get() != Py_True) {
        PyErr_Clear();
        const Ref text = guarded([&] {
            return Ref(PyUnicode_FromFormat("a loop is given up, because it could not be called: %R", error.get()));
        });
        const char *utf8 = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
        PyErr_Clear();
        runtime.report(utf8 ? utf8 : "a loop is given up, because it could not be called");
    }
    close(AIOBRIDGE_LOOP_CLOSED, drop_now);
}

void Bridge::close(aiobridge_reason reason, bool drop_now) {
    Batch waiting = inbox.close();
    for (Batch *each : {&batch, &waiting})
        while (Node *node = each->pop())
            static_cast<Item *>(node)->discard();

    const auto found = bridges->find(loop_key_);
    if (found != bridges->end() && found->second == this) {
        bridges->erase(found);
        log(reason == AIOBRIDGE_LOOP_CLOSED ? "is closed" : "is let go, because the interpreter exits");
    }

    // Strong references first: what a member drops may end others.
    std::vector<std::pair<Ref, decltype(Member::loop_closed)>> members;
    while (members_.next != &members_) {
        Member &member = *members_.next;
        members.emplace_back(Ref::borrow(member.object), member.loop_closed);
        unlink(member);
    }
    retain(); // the members and the drain hold us, and go
    for (auto &[object, loop_closed] : members) {
        loop_closed(object.get(), reason, drop_now);
        if (!drop_now)
            drop_later(runtime, std::move(object));
    }
    members.clear();
    // Ours, with nothing foreign in their ends.
    drain_ = Ref();
    Py_CLEAR(loop_reference_);
    release();
}

void Bridge::close_all(aiobridge_reason reason) {
    while (!bridges->empty())
        bridges->begin()->second->close(reason, true);
}

void Bridge::forget_all() noexcept {
    for (const auto &[loop, bridge] : *bridges)
        bridge->signal.forget();
    bridges = new std::unordered_map<PyObject *, Bridge *>; // the old one is the parent's
}

void Bridge::link(Member &member) noexcept {
    member.previous = members_.previous;
    member.next = &members_;
    member.previous->next = &member;
    members_.previous = &member;
}

void Bridge::unlink(Member &member) noexcept {
    if (!member.linked())
        return;
    member.previous->next = member.next;
    member.next->previous = member.previous;
    member.previous = member.next = nullptr;
}

} // namespace aiobridge::core
