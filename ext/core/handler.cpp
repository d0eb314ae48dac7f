// ext/core/handler.cpp: the Python side of a callback
#include "handler.h"

#include "call.h"
#include "callback.h"
#include "locked.h"

namespace aiobridge::core {
namespace {

PyTypeObject *handler_type;

// Everything that waits fails now: nobody's std::future waits for ever.
void on_loop_closed(PyObject *object, aiobridge_reason reason, bool drop_now) {
    Handler *handler = as_handler(object);
    Callback &callback = *handler->callback;
    callback.limit().close();
    while (Call *call = callback.limit().take_waiting())
        call->refuse(AIOBRIDGE_CLOSED, reason);
    callback.end_running(reason, drop_now);
    Ref references[2];
    {
        const Locked lock(object);
        references[0] = Ref(std::exchange(handler->function, nullptr));
        references[1] = Ref(std::exchange(handler->context, nullptr));
    }
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
    if (handler->callback)
        handler->callback->bridge().unlink(handler->member);
    const Ref function(std::exchange(handler->function, nullptr));
    const Ref context(std::exchange(handler->context, nullptr));
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

} // namespace

int register_handler() noexcept {
    handler_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&spec));
    return handler_type ? 0 : -1;
}

Ref make_handler(Callback &callback, PyObject *function) noexcept {
    Ref context = current_context();
    Ref made = context ? new_object(handler_type) : Ref();
    if (!made)
        return made;
    Handler *handler = as_handler(made.get());
    callback.retain();
    handler->callback = &callback;
    handler->function = Ref::borrow(function).release();
    handler->context = context.release();
    handler->member.object = made.get();
    handler->member.loop_closed = on_loop_closed;
    return made;
}

Ref function_of(Handler *handler) noexcept {
    const Locked lock(reinterpret_cast<PyObject *>(handler));
    return Ref::borrow(handler->function);
}

Ref context_of(Handler *handler) noexcept {
    const Locked lock(reinterpret_cast<PyObject *>(handler));
    return Ref::borrow(handler->context);
}

} // namespace aiobridge::core
