// ext/core/python_hook.cpp: a Python function as a hook
#include "python_hook.h"

#include "bridge.h"
#include "gil.h"
#include "runtime.h"
#include "words.h"

#include <memory>
#include <new>

namespace aiobridge::core {
namespace {

struct PythonHook {
    Runtime &runtime;
    Ref function, context;
};

// On the hook thread. False: the interpreter exits, and has not waited for us.
template <class Work> bool with_gil(Runtime &runtime, Work work) {
    aiobridge_gil_state state;
    if (!guarded([&] { return gil_acquire(state, runtime.hook_gate); }))
        return false;
    work();
    gil_release(state);
    return true;
}

void call(PythonHook &hook, aiobridge_reason reason) noexcept {
    const InContext entered(hook.context.get());
    if (entered && guarded([&] { return Ref(PyObject_CallOneArg(hook.function.get(), reason_word(reason))); }))
        return;
    Ref error = take_exception();
    const Ref text = formatted("the hook %R raised", hook.function.get());
    const char *utf8 = text ? PyUnicode_AsUTF8(text.get()) : nullptr;
    clear_error();
    hook.runtime.report(utf8 ? utf8 : "a hook raised", error.release());
    Bridge::nudge_any();
}

void run(void *context, aiobridge_reason reason) {
    auto &hook = *static_cast<PythonHook *>(context);
    with_gil(hook.runtime, [&] { call(hook, reason); });
}

void destroy(void *context) {
    const std::unique_ptr<PythonHook> hook(static_cast<PythonHook *>(context));
    const auto drop = [&] {
        hook->function = Ref();
        hook->context = Ref();
    };
    if (with_gil(hook->runtime, drop))
        return;
    hook->function.release(); // at exit: what the interpreter has not freed it does not need
    hook->context.release();
}

} // namespace

PyObject *install_python_hook(PyObject *function, const char *method, int (*install)(void *to, const aiobridge_hook &),
                              void *to) noexcept {
    if (!PyCallable_Check(function))
        return raise(PyExc_TypeError, "%s() takes a function of one argument, the reason; not %R", method, function);
    Ref context = current_context();
    if (!context)
        return nullptr;
    std::unique_ptr<PythonHook> hook(new (std::nothrow)
                                         PythonHook{Runtime::current(), Ref::borrow(function), std::move(context)});
    if (!hook)
        return PyErr_NoMemory();
    if (install(to, {sizeof(aiobridge_hook), 0, run, destroy, hook.get()}) != 0)
        return raise(names.bridge_error,
                     "%s(): the hook %R could not be installed, because the hook thread could not be started, memory "
                     "ran out or the process was forked",
                     method, function);
    hook.release();
    Py_RETURN_NONE;
}

} // namespace aiobridge::core
