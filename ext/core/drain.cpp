// ext/core/drain.cpp: delivers what was posted to a loop, fairly, whatever the delivered code does
#include "drain.h"

#include "bridge.h"
#include "pause.h"

#include <structmember.h>

#include <chrono>
#include <cstddef>

namespace aiobridge::core {
namespace {

// A drain gives the loop back after so many items or so much time, and goes on in its next turn.
constexpr int item_budget = 512;
constexpr int items_between_clock_reads = 16;
constexpr std::chrono::microseconds time_budget{2000};

struct Drain {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Bridge *bridge; // owned
    bool is_reader;
};

// The calls below are foreign Python code, in which a signal handler may raise KeyboardInterrupt. It has to come out of
// the drain, but only after the drain has left everything in order.
bool keep_interrupt(Ref &interrupt) {
    Ref error = take_exception();
    if (!must_pass(error.get())) {
        set_exception(error.get());
        return false;
    }
    interrupt = std::move(error);
    return true;
}

// Direct resumption of tasks is legal outside of every task, and would hide slow callbacks from asyncio's debug mode.
bool may_resume(Bridge &bridge, PyObject *loop, Ref &interrupt) {
    const bool asked = bridge.ask_debug(loop) == 0;
    const Ref task = asked ? guarded([&] { return Ref(PyObject_CallOneArg(names.current_task, loop)); }) : Ref();
    if (task)
        return !bridge.debug && task.get() == Py_None;
    if (!keep_interrupt(interrupt))
        clear_error();
    return false;
}

// Asks the loop to call the drain again in its next turn. False: the loop is closed.
bool schedule(Bridge &bridge, PyObject *loop, Ref &interrupt) {
    while (!bridge.scheduled) {
        // No context: the handle copies ours, which is empty. A nested loop could not enter one that we share with it.
        const Ref drain = bridge.drain();
        if (!drain)
            return false;
        PyObject *arguments[] = {loop, drain.get()};
        if (guarded([&] { return Ref(PyObject_VectorcallMethod(names.call_soon, arguments, 2, nullptr)); }))
            bridge.scheduled = true;
        else if (!keep_interrupt(interrupt)) {
            if (bridge.give_up(loop, true) != 0)
                keep_interrupt(interrupt);
            return false;
        } // else try again: a second call of the drain does no harm, a missing one does
    }
    return true;
}

// Delivers items until the batch or the budget is used up. -1 with a Python error that has to pass.
//
// What is delivered is foreign code: it may post, cancel, close the loop, raise KeyboardInterrupt, or run a nested loop
// that waits for the next item of this very batch. So the rule is: whenever an item is delivered, either the batch and
// the inbox are empty and the inbox is at rest, or a call of the drain is scheduled. Then nothing ever waits for us.
int deliver_batch(Bridge &bridge, PyObject *loop, Ref &interrupt) {
    using Clock = std::chrono::steady_clock;
    const auto started = Clock::now();
    for (int count = 1;; ++count) {
        Node *node = bridge.next_item();
        if (!node)
            return 0;
        AIOBRIDGE_PAUSE("drain.rest");
        // Before the last item the inbox goes to rest. If it cannot, more has come, for the next turn.
        if (!bridge.scheduled && (bridge.has_items() || !bridge.inbox.rest()) && !schedule(bridge, loop, interrupt)) {
            static_cast<Item *>(node)->discard();
            return 0;
        }
        bridge.runtime.figures.deliveries.fetch_add(1, std::memory_order_relaxed);
        bridge.delivered.store(count, std::memory_order_relaxed);
        AIOBRIDGE_PAUSE("drain.deliver");
        if (static_cast<Item *>(node)->deliver(bridge) != 0)
            return -1;
        AIOBRIDGE_PAUSE("drain.delivered");
        if (count >= item_budget || (count % items_between_clock_reads == 0 && Clock::now() - started >= time_budget))
            return 0; // if anything is left, a call is scheduled
    }
}

// The loop calls the reader in the one context of its handle, and cannot do so again in a loop nested in what we
// deliver: so leave that context meanwhile. (Handles of call_soon have a context each.)
class OutsideContext {
public:
    explicit OutsideContext(bool leave) noexcept : context_(leave ? Ref::borrow(PyThreadState_Get()->context) : Ref()) {
        if (context_ && PyContext_Exit(context_.get()) != 0) {
            clear_error(); // a lazily made context, which was never entered
            context_ = Ref();
        }
    }
    ~OutsideContext() {
        const ErrorAside error;
        if (context_ && PyContext_Enter(context_.get()) != 0)
            tell_unraisable(context_.get());
    }
    OutsideContext(const OutsideContext &) = delete;
    OutsideContext &operator=(const OutsideContext &) = delete;

private:
    Ref context_;
};

PyObject *call_drain(PyObject *self, PyObject *const *, std::size_t, PyObject *) {
    Bridge &bridge = *reinterpret_cast<Drain *>(self)->bridge;
    const bool is_reader = reinterpret_cast<Drain *>(self)->is_reader;
    // Before taking, so that a post that comes between the two sets it again; and even if closed, or it would stay
    // readable for ever.
    if (is_reader && !bridge.runtime.forked())
        bridge.signal.clear();
    AIOBRIDGE_PAUSE("drain.cleared");
    if (bridge.is_closed())
        Py_RETURN_NONE;
    const Ref alive = Ref::borrow(self);
    const Ref loop = bridge.loop();
    if (!loop)
        Py_RETURN_NONE;
    if (!is_reader)
        bridge.scheduled = false;
    bridge.runs_on_this_thread();
    Ref interrupt;
    if (bridge.runtime.run_deferred(loop.get()) != 0)
        keep_interrupt(interrupt);

    AIOBRIDGE_PAUSE("drain.take");
    bridge.take_items();
    AIOBRIDGE_PAUSE("drain.taken");
    int result = 0;
    if (!bridge.has_items()) {
        if (!bridge.inbox.rest())
            schedule(bridge, loop.get(), interrupt);
    } else {
        bridge.runtime.figures.drains.fetch_add(1, std::memory_order_relaxed);
        const bool outer = bridge.may_resume;
        bridge.may_resume = may_resume(bridge, loop.get(), interrupt);
        const OutsideContext outside(is_reader);
        result = deliver_batch(bridge, loop.get(), interrupt);
        bridge.may_resume = outer;
    }
    AIOBRIDGE_PAUSE("drain.end");
    if (result != 0)
        return nullptr;
    if (interrupt) {
        set_exception(interrupt.get());
        return nullptr;
    }
    Py_RETURN_NONE;
}

PyObject *drain_repr(PyObject *self) {
    Bridge &bridge = *reinterpret_cast<Drain *>(self)->bridge;
    const Ref loop = Bridge::loop_text(&bridge);
    return loop ? PyUnicode_FromFormat("<aiobridge drain, %U, delivered %d>", loop.get(),
                                       bridge.delivered.load(std::memory_order_relaxed))
                : nullptr;
}

void drain_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Bridge *bridge = reinterpret_cast<Drain *>(self)->bridge;
    if (reinterpret_cast<Drain *>(self)->is_reader && !bridge->runtime.forked()) {
        const ErrorAside error;
        bridge->close(AIOBRIDGE_LOOP_CLOSED, true);
    }
    bridge->release();
    type->tp_free(self);
    Py_DECREF(type);
}

PyMemberDef drain_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Drain, vectorcall), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

PyType_Slot drain_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void *>(drain_dealloc)},
    {Py_tp_call, reinterpret_cast<void *>(PyVectorcall_Call)},
    {Py_tp_repr, reinterpret_cast<void *>(drain_repr)},
    {Py_tp_members, drain_members},
    {0, nullptr},
};

PyType_Spec drain_spec = {"aiobridge._core.Drain", sizeof(Drain), 0,
                          Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                          drain_slots};
PyTypeObject *drain_type;

PyObject *make(Bridge &bridge, bool is_reader) noexcept {
    auto *drain = reinterpret_cast<Drain *>(drain_type->tp_alloc(drain_type, 0));
    if (!drain)
        return nullptr;
    bridge.retain();
    drain->vectorcall = call_drain;
    drain->bridge = &bridge;
    drain->is_reader = is_reader;
    return reinterpret_cast<PyObject *>(drain);
}

} // namespace

PyObject *make_drain(Bridge &bridge) noexcept { return make(bridge, false); }
PyObject *make_reader(Bridge &bridge) noexcept { return make(bridge, true); }

void disarm_reader(PyObject *reader) noexcept { reinterpret_cast<Drain *>(reader)->is_reader = false; }

int register_drain(PyObject *module) noexcept {
    drain_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &drain_spec, nullptr));
    return drain_type ? 0 : -1;
}

} // namespace aiobridge::core
