// ext/core/handler.cpp: the Python side of a callback
#include "handler.h"

#include "call.h"
#include "callback.h"

namespace aiobridge::core {
namespace {

PyTypeObject *handler_type;

Handler *as_handler(PyObject *object) noexcept { return reinterpret_cast<Handler *>(object); }

// Everything that waits fails now: nobody's std::future waits for ever.
void on_loop_closed(PyObject *object, aiobridge_reason reason, bool drop_now) {
    Handler *handler = as_handler(object);
    Callback &callback = *handler->callback;
    callback.limit().close();
    while (Call *call = callback.limit().take_waiting())
        call->refuse(AIOBRIDGE_CLOSED, reason);
    while (handler->running)
        handler->running->loop_closed(reason, drop_now);
    Ref references[] = {Ref(std::exchange(handler->function, nullptr)), Ref(std::exchange(handler->context, nullptr))};
    for (Ref &reference : references)
        if (!drop_now && reference)
            drop_later(callback.runtime(), std::move(reference));
    callback.loop_closed(); // not the end of us: whoever closes the loop has a reference
}

int traverse(PyObject *self, visitproc visit, void *arg) noexcept {
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(as_handler(self)->function);
    Py_VISIT(as_handler(self)->context);
    return 0;
}

void dealloc(PyObject *self) noexcept {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Handler *handler = as_handler(self);
    Bridge::unlink(handler->member);
    Py_CLEAR(handler->function);
    Py_CLEAR(handler->context);
    if (handler->callback)
        handler->callback->release();
    type->tp_free(self);
    Py_DECREF(type);
}

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void *>(dealloc)},
    {Py_tp_traverse, reinterpret_cast<void *>(traverse)},
    {0, nullptr},
};

PyType_Spec spec = {"aiobridge._core.Handler", sizeof(Handler), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

// On its own loop, which another thread may run: a context, and with it a scope, can be copied to there.
Ref cancel(PyObject *task, Bridge &bridge) noexcept {
    if (bridge.runs_here())
        return guarded([&] { return Ref(PyObject_CallMethodNoArgs(task, names.cancel)); });
    const Ref loop = bridge.loop(), method(PyObject_GetAttr(task, names.cancel));
    if (!loop || !method)
        return loop ? Ref() : Ref::borrow(Py_None); // a loop that is gone has no tasks
    PyObject *arguments[] = {loop.get(), method.get()};
    return guarded([&] { return Ref(PyObject_VectorcallMethod(names.call_soon_threadsafe, arguments, 2, nullptr)); });
}

} // namespace

int register_handler() noexcept {
    handler_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return handler_type ? 0 : -1;
}

int cancel_running(Handler *handler) noexcept {
    Ref tasks(PyList_New(0)), interrupt;
    for (Call *call = handler->running; tasks && call; call = call->next_running())
        if (PyList_Append(tasks.get(), call->task()) != 0)
            tasks = Ref();
    // Foreign code from here on, which may end calls.
    for (Py_ssize_t i = 0; tasks && i < PyList_GET_SIZE(tasks.get()); ++i) {
        PyObject *task = PyList_GET_ITEM(tasks.get(), i);
        if (cancel(task, handler->callback->bridge()))
            continue;
        if (write_unraisable(task) != 0)
            interrupt = take_exception();
    }
    if (!tasks)
        PyErr_WriteUnraisable(nullptr); // no memory
    if (!interrupt)
        return 0;
    set_exception(interrupt.get());
    return -1;
}

Handler *make_handler(Callback &callback, Bridge &bridge, PyObject *function) noexcept {
    Ref context(PyContext_CopyCurrent());
    auto *handler = context ? as_handler(handler_type->tp_alloc(handler_type, 0)) : nullptr;
    if (!handler)
        return nullptr;
    callback.retain();
    handler->callback = &callback;
    handler->function = Ref::borrow(function).release();
    handler->context = context.release();
    handler->member.object = reinterpret_cast<PyObject *>(handler);
    handler->member.loop_closed = on_loop_closed;
    bridge.link(handler->member);
    return handler;
}

} // namespace aiobridge::core
