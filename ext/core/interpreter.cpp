// ext/core/interpreter.cpp: the way into Python's interpreter, for threads that are not its own
#include "interpreter.h"

#include <Python.h>

#include <cstdint>
#include <new>

namespace aiobridge::core {

#if PY_VERSION_HEX >= 0x030f0000

namespace {

// Until we are inside, and no longer: Python waits for guards without end, our exit only for so long.
class Guard {
public:
    explicit Guard(void *view) noexcept : guard_(PyInterpreterGuard_FromView(static_cast<PyInterpreterView *>(view))) {}
    ~Guard() {
        if (guard_)
            PyInterpreterGuard_Close(guard_);
    }
    Guard(const Guard &) = delete;
    Guard &operator=(const Guard &) = delete;
    PyInterpreterGuard *get() const noexcept { return guard_; }

private:
    PyInterpreterGuard *const guard_;
};

} // namespace

Interpreter::Interpreter() : state_(PyInterpreterState_Get()), view_(PyInterpreterView_FromMain()) {
    if (!view_)
        throw std::bad_alloc();
}

bool Interpreter::attach(PyThreadState *&own) const {
    const Guard guard(view_);
    if (!guard.get() || (!own && !(own = PyThreadState_New(state_))))
        return false;
    PyEval_RestoreThread(own);
    return true;
}

bool Interpreter::ensure(void *&token) const {
    const Guard guard(view_);
    return guard.get() && (token = PyThreadState_Ensure(guard.get()));
}

void Interpreter::release(void *token) { PyThreadState_Release(static_cast<PyThreadStateToken *>(token)); }

#else

Interpreter::Interpreter() : state_(PyInterpreterState_Get()) {}

bool Interpreter::attach(PyThreadState *&own) const {
    if (!own && !(own = PyThreadState_New(state_)))
        return false;
    PyEval_RestoreThread(own);
    return true;
}

bool Interpreter::ensure(void *&token) const {
    token = reinterpret_cast<void *>(static_cast<std::intptr_t>(PyGILState_Ensure()));
    return true;
}

void Interpreter::release(void *token) {
    PyGILState_Release(static_cast<PyGILState_STATE>(reinterpret_cast<std::intptr_t>(token)));
}

#endif

} // namespace aiobridge::core
