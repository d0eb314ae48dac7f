// ext/core/bridge.cpp: the life of a bridge, from the loop's first use of us to its end
#include "bridge.h"

#include "drain.h"
#include "pause.h"

#include <cstdio>
#include <new>
#include <system_error>
#include <unordered_map>
#include <vector>

namespace aiobridge::core {
namespace {

// GIL. Open bridges by the address of their loop, which cannot be another loop's while the weak reference lives. Each
// is kept by its drain, which goes after it was taken out of here. Never destroyed; a child process starts with a new
// one.
struct Bridges {
    PythonLock lock;
    std::unordered_map<PyObject *, Bridge *> by_loop;
};
Bridges *bridges = new Bridges;

// A reference that must not be dropped where we are.
class DropLater final : public Deferred {
public:
    int run(PyObject *) override {
        object = Ref();
        return 0;
    }
    Ref object;
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

Bridge::Bridge(PyObject *loop, Ref loop_reference)
    : runtime(Runtime::current()), loop_key_(loop), loop_reference_(std::move(loop_reference)) {
    members_.previous = members_.next = &members_;
}

// Any thread: the Python objects went with close().
Bridge::~Bridge() = default;

void Bridge::release() noexcept {
    if (runtime.forked() || references_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    delete this;
}

BridgeRef Bridge::find(PyObject *loop) noexcept {
    BridgeRef bridge;
    {
        const std::lock_guard lock(bridges->lock);
        const auto found = bridges->by_loop.find(loop);
        if (found == bridges->by_loop.end())
            return bridge;
        bridge = BridgeRef(found->second->retained());
    }
    if (bridge->loop().get() == loop && !bridge->is_closed())
        return bridge;
    // The address is a new loop's. The old one went unnoticed, because it had no readers.
    bridge->close(AIOBRIDGE_LOOP_CLOSED, true);
    return BridgeRef();
}

BridgeRef Bridge::of_running_loop() {
    PyObject *loop = running_loop();
    return loop ? of(loop) : BridgeRef();
}

BridgeRef Bridge::of(PyObject *loop) {
    if (BridgeRef bridge = find(loop))
        return bridge;
    Runtime &runtime = Runtime::current();
    if (runtime.run_deferred(loop) != 0)
        return BridgeRef();
    return make(loop, runtime.wake_mode);
}

BridgeRef Bridge::make(PyObject *loop, WakeMode mode) {
    Runtime &runtime = Runtime::current();
    if (runtime.closed()) {
        raise(names.closed_error, "aiobridge: %R cannot use native results any more, because the interpreter exits",
              loop);
        return BridgeRef();
    }
    Ref reference(guarded([loop] { return PyWeakref_NewRef(loop, nullptr); }));
    if (!reference)
        return BridgeRef();
    BridgeRef bridge;
    const auto close = [&] {
        const ErrorAside error;
        bridge->close(AIOBRIDGE_LOOP_CLOSED, true);
    };
    try {
        bridge = BridgeRef(new Bridge(loop, std::move(reference)));
        bridge->drain_ = Ref(make_drain(*bridge));
        const Ref reader(make_reader(*bridge));
        if (bridge->drain_ && reader && bridge->ask_debug_at_first(loop) == 0 &&
            bridge->watch(loop, reader.get(), mode) == 0) {
            {
                const std::lock_guard lock(bridges->lock);
                bridges->by_loop.emplace(loop, bridge.get());
            }
            bridge->log(bridge->mode_ == WakeMode::fd ? "is served, and woken by its descriptor"
                                                      : "is served, and woken with call_soon_threadsafe");
            return bridge; // the drain holds it from now on too, until it is closed
        }
        close();
    } catch (const std::system_error &error) {
        raise(PyExc_OSError, "aiobridge cannot serve %R: %s", loop, error.what());
    } catch (const std::bad_alloc &) {
        PyErr_NoMemory();
        if (bridge)
            close();
    }
    return BridgeRef();
}

bool Bridge::post(Item *item) noexcept {
    if (runtime.closed())
        return false;
    AIOBRIDGE_PAUSE("bridge.post");
    switch (inbox.post(item)) {
    case Posted::refused: return false;
    case Posted::wake:
        AIOBRIDGE_PAUSE("bridge.wake");
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
    const std::lock_guard lock(bridges->lock);
    for (const auto &[loop, bridge] : bridges->by_loop)
        if (!bridge->is_closed())
            return bridge->nudge();
}

Ref Bridge::loop() noexcept {
    Ref reference;
    {
        const std::lock_guard lock(lock_);
        reference = Ref::borrow(loop_reference_.get());
    }
    return target(reference.get());
}

Ref Bridge::drain() noexcept {
    const std::lock_guard lock(lock_);
    return Ref::borrow(drain_.get());
}

Node *Bridge::next_item() noexcept {
    const std::lock_guard lock(lock_);
    return batch_.pop();
}

bool Bridge::has_items() noexcept {
    const std::lock_guard lock(lock_);
    return !batch_.empty();
}

void Bridge::take_items() noexcept {
    const std::lock_guard lock(lock_);
    if (batch_.empty())
        batch_ = inbox.take();
}

Ref Bridge::loop_text(Bridge *bridge) noexcept {
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

void Bridge::close(aiobridge_reason reason, bool drop_now) {
    AIOBRIDGE_PAUSE("bridge.close");
    const BridgeRef alive(retained()); // the members and the drain hold us, and go
    Batch posted = inbox.close(), taken;
    AIOBRIDGE_PAUSE("bridge.closed");
    bool first = false;
    {
        const std::lock_guard lock(bridges->lock);
        const auto found = bridges->by_loop.find(loop_key_);
        if (found != bridges->by_loop.end() && found->second == this) {
            bridges->by_loop.erase(found);
            first = true;
        }
    }
    if (first)
        log(reason == AIOBRIDGE_LOOP_CLOSED ? "is closed" : "is let go, because the interpreter exits");
    // Strong references first: what a member drops may end others. Each stays in the list until it was told: without a
    // GIL the notifier may find the loop closed while that closes itself. Then the loop's thread, though second, tells
    // those again that the notifier may not have reached, or whoever has closed the loop would find Futures that are
    // still pending. Not the other way round: nobody waits for the notifier, which cannot drop what they hold.
    std::vector<std::pair<Ref, Member *>> members;
    Ref drain, loop_reference;
    {
        const std::lock_guard lock(lock_);
        taken = std::exchange(batch_, Batch());
        if (drop_now || closers_ == 0)
            for (Member *member = members_.next; member != &members_; member = member->next)
                if (try_retain(member->object)) // else it ends at this very moment, on another thread
                    members.emplace_back(Ref(member->object), member);
        takes_members_ = false;
        drain = std::move(drain_);
        ++closers_;
    }
    for (Batch *each : {&taken, &posted})
        while (Node *node = each->pop())
            static_cast<Item *>(node)->discard();
    for (auto &[object, member] : members) {
        AIOBRIDGE_PAUSE("bridge.member");
        member->loop_closed(object.get(), reason, drop_now);
        unlink(*member);
        if (!drop_now)
            drop_later(runtime, std::move(object));
    }
    // Last, because who waited for a member is called through the loop, if that is still open.
    const std::lock_guard lock(lock_);
    if (--closers_ == 0)
        loop_reference = std::move(loop_reference_);
}

void Bridge::close_all(aiobridge_reason reason) {
    for (;;) {
        BridgeRef bridge;
        {
            const std::lock_guard lock(bridges->lock);
            if (bridges->by_loop.empty())
                return;
            bridge = BridgeRef(bridges->by_loop.begin()->second->retained());
        }
        bridge->close(reason, true);
    }
}

void Bridge::forget_all() noexcept {
    for (const auto &[loop, bridge] : bridges->by_loop)
        bridge->signal.forget();
    bridges = new Bridges; // the old one is the parent's
}

bool Bridge::link(Member &member) noexcept {
    const std::lock_guard lock(lock_);
    if (!takes_members_)
        return false;
    allow_try_retain(member.object);
    member.previous = members_.previous;
    member.next = &members_;
    member.previous->next = &member;
    members_.previous = &member;
    return true;
}

void Bridge::unlink(Member &member) noexcept {
    const std::lock_guard lock(lock_);
    if (member.linked())
        unlink_locked(member);
}

void Bridge::unlink_locked(Member &member) noexcept {
    member.previous->next = member.next;
    member.next->previous = member.previous;
    member.previous = member.next = nullptr;
}

} // namespace aiobridge::core
