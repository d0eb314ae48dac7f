// ext/core/python.h: small helpers for the C API of Python, and the names and objects we use all the time
#pragma once

#include <Python.h>

#include <chrono>
#include <thread>
#include <utility>

namespace aiobridge::core {

/// Stops a thread for ever, unless it is told that all went well.
class HangOnUnwind {
public:
    HangOnUnwind() noexcept = default;
    HangOnUnwind(const HangOnUnwind &) = delete;
    HangOnUnwind &operator=(const HangOnUnwind &) = delete;
    ~HangOnUnwind() {
        while (!returned_)
            std::this_thread::sleep_for(std::chrono::hours(1));
    }
    void returned() noexcept { returned_ = true; }

private:
    bool returned_ = false;
};

/// Calls foreign Python code. GIL. While the interpreter exits, Python up to 3.13 ends a thread that wants the GIL back
/// by unwinding it, which would go through our frames without the GIL, and abort the process at the first noexcept. So
/// the thread stops here, as Python 3.14 does it. `call` owns no reference meanwhile: the unwinding would drop it. Not
/// inlined: the guard must be in a frame that is allowed to unwind.
template <class F> [[gnu::noinline]] auto guarded(F &&call) {
    HangOnUnwind guard;
    auto result = call();
    guard.returned();
    return result;
}

/// Gives up a reference. GIL. What it frees may be foreign code's to free.
inline void drop(PyObject *object) {
#if !defined(Py_GIL_DISABLED) // else another thread's last reference can become ours after the question
    if (Py_REFCNT(object) > 1) {
        Py_DECREF(object);
        return;
    }
#endif
    guarded([object] { return Py_DECREF(object), true; });
}

/// An owned reference, or null. GIL.
class Ref {
public:
    Ref() noexcept = default;
    /// Takes over a new reference.
    explicit Ref(PyObject *owned) noexcept : object_(owned) {}
    static Ref borrow(PyObject *object) noexcept {
        Py_XINCREF(object);
        return Ref(object);
    }
    Ref(Ref &&other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Ref &operator=(Ref &&other) noexcept {
        Ref old(std::exchange(object_, std::exchange(other.object_, nullptr)));
        return *this;
    }
    ~Ref() {
        if (object_)
            drop(object_);
    }
    PyObject *get() const noexcept { return object_; }
    PyObject *release() noexcept { return std::exchange(object_, nullptr); }
    explicit operator bool() const noexcept { return object_ != nullptr; }

private:
    PyObject *object_ = nullptr;
};

/// What takes part in garbage collection: up to Python 3.11 making it can begin one, which runs foreign finalizers.
/// Null with an error. GIL.
inline Ref new_object(PyTypeObject *type) {
    return Ref(guarded([type] { return type->tp_alloc(type, 0); }));
}
inline Ref new_list() {
    return Ref(guarded([] { return PyList_New(0); }));
}
inline Ref new_dict() {
    return Ref(guarded([] { return PyDict_New(); }));
}
inline Ref new_pair(PyObject *first, PyObject *second) {
    return Ref(guarded([=] { return PyTuple_Pack(2, first, second); }));
}
inline Ref new_function(PyMethodDef *method, PyObject *self) {
    return Ref(guarded([=] { return PyCFunction_New(method, self); }));
}
inline Ref current_context() {
    return Ref(guarded([] { return PyContext_CopyCurrent(); }));
}

/// Calls those who wait for this object's end. By its destructor.
inline void clear_weak_references(PyObject *self) {
    guarded([self] { return PyObject_ClearWeakRefs(self), true; });
}

/// Forgets the pending error, whose traceback may hold the last reference to anything.
inline void clear_error() {
    guarded([] { return PyErr_Clear(), true; });
}

/// Tells the unraisable hook of the pending error.
void tell_unraisable(PyObject *where) noexcept;

/// Keeps the pending error aside while other Python code runs.
class ErrorAside {
public:
    ErrorAside() noexcept { PyErr_Fetch(&type_, &value_, &traceback_); }
    ~ErrorAside() { PyErr_Restore(type_, value_, traceback_); }
    ErrorAside(const ErrorAside &) = delete;
    ErrorAside &operator=(const ErrorAside &) = delete;

private:
    PyObject *type_, *value_, *traceback_;
};

/// Takes the pending error as one normalized exception object with its traceback.
Ref take_exception() noexcept;
/// Makes this exception object the pending error. (Python asks its class, whose metaclass may be foreign.)
inline void set_exception(PyObject *exception) {
    guarded([=] { return PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(exception)), exception), true; });
}

/// A RuntimeError whose cause is this exception, which cannot be raised as it is; or what went wrong instead.
Ref as_runtime_error(Ref exception, const char *message) noexcept;

/// True for KeyboardInterrupt and SystemExit, which asyncio lets through to whoever runs the loop.
bool must_pass(PyObject *exception) noexcept;

/// What a weak reference points to, if it lives: a new reference. The weak reference may be null.
Ref target(PyObject *weak_reference) noexcept;

/// Any thread, also one that Python does not know.
bool holds_gil() noexcept;

/// Gives up the GIL, if this thread holds it, for a wait. Getting it back can stop the thread for ever: `guarded`.
class WithoutGil {
public:
    WithoutGil() noexcept : state_(holds_gil() ? PyEval_SaveThread() : nullptr) {}
    ~WithoutGil() {
        if (state_)
            guarded([this] { return PyEval_RestoreThread(state_), true; });
    }
    WithoutGil(const WithoutGil &) = delete;
    WithoutGil &operator=(const WithoutGil &) = delete;

private:
    PyThreadState *const state_;
};

/// A copy of a context, entered for the time of a call: calls of one callback do not see each other's variables, and
/// can nest.
class InContext {
public:
    explicit InContext(PyObject *context) noexcept : context_(guarded([=] { return PyContext_Copy(context); })) {
        if (context_ && PyContext_Enter(context_.get()) != 0)
            context_ = Ref();
    }
    ~InContext() {
        const ErrorAside error;
        if (context_ && PyContext_Exit(context_.get()) != 0)
            tell_unraisable(context_.get());
    }
    InContext(const InContext &) = delete;
    InContext &operator=(const InContext &) = delete;
    explicit operator bool() const noexcept { return static_cast<bool>(context_); }

private:
    Ref context_;
};

/// An aiobridge exception with a formatted message, as PyErr_Format; it may show foreign objects.
PyObject *raise(PyObject *type, const char *format, ...) noexcept;

/// A text that shows foreign objects, as PyUnicode_FromFormat; or null with an error.
Ref formatted(const char *format, ...) noexcept;

/// Whether a loop says yes to is_closed, or to is_running: 1 or 0, or -1 with what it raised, which on a main thread
/// may be a signal handler's. GIL.
int loop_says(PyObject *loop, PyObject *question) noexcept;

/// Tells the loop's exception handler; the unraisable hook, if even that fails. `exception`, `future` and
/// `source_traceback` may be null. -1 with an error that must pass, else no error is left.
int call_exception_handler(PyObject *loop, const char *message, PyObject *exception, PyObject *future,
                           PyObject *source_traceback = nullptr) noexcept;

/// Tells the unraisable hook of the pending error. -1 with the error, if it is one that must pass.
int write_unraisable(PyObject *where) noexcept;

/// Text of C++, which may be anything, as str.
Ref to_text(const char *text) noexcept;

/// Interned names and imported objects. Filled at import, never released.
struct Names {
    PyObject *add_reader, *call_soon, *call_soon_threadsafe, *call_exception_handler, *get_debug, *call_later,
        *is_closed, *is_running, *cancel, *result;
    PyObject *context_keyword; // ("context",)
    PyObject *name_attribute;  // "__name__"
    PyObject *get_running_loop, *current_task, *task_type;
    PyObject *done_future; // an asyncio.Future, with the result None; or null
    PyObject *cancelled_error, *invalid_state_error;
    PyObject *queue_empty, *ensure_future, *format_exception, *extract_stack;
    // aiobridge's own
    PyObject *bridge_error, *broken_promise_error, *broken_stream_error, *closed_error, *end_of_stream,
        *stream_overflow, *stream_stats;
    PyObject *logger;
};
extern Names names;
int init_names() noexcept;

/// `__reduce__` of what cannot be pickled or copied.
PyObject *refuse_pickle(PyObject *self, PyObject *) noexcept;

/// For a PyMethodDef.
template <class F> PyCFunction as_method(F function) noexcept {
    return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

/// The loop that runs in this thread, borrowed; null without an error where none runs.
PyObject *running_loop() noexcept;

} // namespace aiobridge::core
