// ext/core/python.cpp: small helpers for the C API of Python
#include "python.h"

#include <cstdarg>
#include <cstring>

namespace aiobridge::core {

Names names;

namespace {

PyObject *attribute(const char *module, const char *name) {
    Ref imported(PyImport_ImportModule(module));
    return imported ? PyObject_GetAttrString(imported.get(), name) : nullptr;
}

PyObject *make_done_future() {
    const Ref type(attribute("asyncio", "Future")), make_namespace(attribute("types", "SimpleNamespace"));
    // All that a future without callbacks asks of its loop; bool() is False.
    const Ref keywords(Py_BuildValue("{s:O}", "get_debug", &PyBool_Type)), nothing(PyTuple_New(0));
    if (!type || !make_namespace || !keywords || !nothing)
        return nullptr;
    const Ref loop(PyObject_Call(make_namespace.get(), nothing.get(), keywords.get()));
    const Ref with_loop(loop ? Py_BuildValue("{s:O}", "loop", loop.get()) : nullptr);
    Ref future(with_loop ? PyObject_Call(type.get(), nothing.get(), with_loop.get()) : nullptr);
    return future && Ref(PyObject_CallMethod(future.get(), "set_result", "O", Py_None)) ? future.release() : nullptr;
}

} // namespace

int init_names() noexcept {
    const auto intern = [](PyObject *&slot, const char *text) {
        return (slot = PyUnicode_InternFromString(text)) != nullptr;
    };
    const auto import = [](PyObject *&slot, const char *module, const char *name) {
        return (slot = attribute(module, name)) != nullptr;
    };
    PyObject *context = nullptr;
    if (!intern(names.add_reader, "add_reader") || !intern(names.call_soon, "call_soon") ||
        !intern(names.call_soon_threadsafe, "call_soon_threadsafe") ||
        !intern(names.call_exception_handler, "call_exception_handler") || !intern(names.get_debug, "get_debug") ||
        !intern(names.call_later, "call_later") || !intern(names.is_closed, "is_closed") ||
        !intern(names.is_running, "is_running") || !intern(names.cancel, "cancel") || !intern(names.result, "result") ||
        !intern(names.name_attribute, "__name__") || !intern(context, "context") ||
        !(names.context_keyword = PyTuple_Pack(1, context)) ||
        // asyncio.Task is the C type where there is one; only that type's own wakeup is resumed directly.
        !import(names.get_running_loop, "asyncio", "_get_running_loop") ||
        !import(names.current_task, "asyncio", "current_task") || !import(names.task_type, "asyncio", "Task") ||
        !import(names.cancelled_error, "asyncio", "CancelledError") ||
        !import(names.invalid_state_error, "asyncio", "InvalidStateError") ||
        !import(names.queue_empty, "asyncio", "QueueEmpty") ||
        !import(names.ensure_future, "asyncio", "ensure_future") ||
        !import(names.format_exception, "traceback", "format_exception") ||
        !import(names.extract_stack, "traceback", "extract_stack") ||
        !import(names.bridge_error, "aiobridge._exceptions", "BridgeError") ||
        !import(names.broken_promise_error, "aiobridge._exceptions", "BrokenPromiseError") ||
        !import(names.broken_stream_error, "aiobridge._exceptions", "BrokenStreamError") ||
        !import(names.closed_error, "aiobridge._exceptions", "ClosedError") ||
        !import(names.end_of_stream, "aiobridge._exceptions", "EndOfStream") ||
        !import(names.stream_overflow, "aiobridge._exceptions", "StreamOverflow") ||
        !import(names.stream_stats, "aiobridge._figures", "StreamStats"))
        return -1;
    Py_XDECREF(context);
    Ref get_logger(attribute("logging", "getLogger"));
    names.logger = get_logger ? PyObject_CallFunction(get_logger.get(), "s", "aiobridge") : nullptr;
    if (!names.logger)
        return -1;
    // Who has put something else in the place of asyncio.Future goes without.
    if (!(names.done_future = make_done_future()))
        clear_error();
    return 0;
}

bool holds_gil() noexcept {
    // Both answers are this thread's own; PyGILState_Check() says yes to everyone once the interpreter is gone.
    PyThreadState *mine = PyGILState_GetThisThreadState();
#if PY_VERSION_HEX >= 0x030d0000
    return mine && mine == PyThreadState_GetUnchecked();
#else
    return mine && mine == _PyThreadState_UncheckedGet();
#endif
}

Ref take_exception() noexcept {
#if PY_VERSION_HEX >= 0x030c0000
    return Ref(PyErr_GetRaisedException());
#else
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    guarded([&] { return PyErr_NormalizeException(&type, &value, &traceback), true; });
    if (value && traceback)
        PyException_SetTraceback(value, traceback);
    const Ref old_type(type), old_traceback(traceback);
    return Ref(value);
#endif
}

Ref as_runtime_error(Ref exception, const char *message) noexcept {
    Ref error(guarded([&] { return PyObject_CallFunction(PyExc_RuntimeError, "s", message); }));
    if (!error)
        return take_exception();
    PyException_SetCause(error.get(), Ref::borrow(exception.get()).release());
    PyException_SetContext(error.get(), exception.release());
    return error;
}

bool must_pass(PyObject *exception) noexcept {
    return PyErr_GivenExceptionMatches(exception, PyExc_KeyboardInterrupt) ||
           PyErr_GivenExceptionMatches(exception, PyExc_SystemExit);
}

Ref target(PyObject *weak_reference) noexcept {
    if (!weak_reference)
        return Ref();
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *object = nullptr;
    PyWeakref_GetRef(weak_reference, &object);
    return Ref(object);
#else
    PyObject *object = PyWeakref_GetObject(weak_reference);
    return object == Py_None ? Ref() : Ref::borrow(object);
#endif
}

PyObject *raise(PyObject *type, const char *format, ...) noexcept {
    va_list arguments;
    va_start(arguments, format);
    guarded([&] { return PyErr_FormatV(type, format, arguments); });
    va_end(arguments);
    return nullptr;
}

Ref formatted(const char *format, ...) noexcept {
    va_list arguments;
    va_start(arguments, format);
    Ref text(guarded([&] { return PyUnicode_FromFormatV(format, arguments); }));
    va_end(arguments);
    return text;
}

void tell_unraisable(PyObject *where) noexcept {
    guarded([where] { return PyErr_WriteUnraisable(where), true; });
}

Ref to_text(const char *text) noexcept {
    return Ref(PyUnicode_DecodeUTF8(text, static_cast<Py_ssize_t>(std::strlen(text)), "replace"));
}

int loop_says(PyObject *loop, PyObject *question) noexcept {
    const Ref answer = guarded([&] { return Ref(PyObject_CallMethodNoArgs(loop, question)); });
    return answer ? answer.get() == Py_True : -1;
}

int call_exception_handler(PyObject *loop, const char *message, PyObject *exception, PyObject *future,
                           PyObject *source_traceback) noexcept {
    const Ref context = new_dict(), text = to_text(message);
    if (context && text && PyDict_SetItemString(context.get(), "message", text.get()) == 0 &&
        (!exception || PyDict_SetItemString(context.get(), "exception", exception) == 0) &&
        (!future || PyDict_SetItemString(context.get(), "future", future) == 0) &&
        (!source_traceback || PyDict_SetItemString(context.get(), "source_traceback", source_traceback) == 0) &&
        guarded([&] { return Ref(PyObject_CallMethodOneArg(loop, names.call_exception_handler, context.get())); }))
        return 0;
    return write_unraisable(future ? future : loop);
}

int write_unraisable(PyObject *where) noexcept {
    Ref error = take_exception();
    const bool passes = must_pass(error.get());
    set_exception(error.get());
    if (passes)
        return -1;
    tell_unraisable(where);
    return 0;
}

PyObject *refuse_pickle(PyObject *self, PyObject *) noexcept {
    return raise(PyExc_TypeError,
                 "%s cannot be pickled or copied: it belongs to a loop of this process; send what comes out of it "
                 "instead",
                 Py_TYPE(self)->tp_name);
}

PyObject *running_loop() noexcept {
    const Ref loop(guarded([] { return PyObject_CallNoArgs(names.get_running_loop); }));
    if (!loop)
        clear_error();
    // Borrowed: the thread that runs the loop holds it.
    return loop.get() == Py_None ? nullptr : loop.get();
}

} // namespace aiobridge::core
