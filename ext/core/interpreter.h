// ext/core/interpreter.h: the way into Python's interpreter, for threads that are not its own
#pragma once

struct _is; // PyInterpreterState
struct _ts; // PyThreadState

namespace aiobridge::core {

/// The interpreter that has imported us. All but the constructor: any thread inside a gate, so that the exit waits for
/// it. From Python 3.15 on the interpreter itself is asked too (PEP 788), and then refuses if it has begun to go;
/// before, the gate alone knows. If it goes all the same, past our patience, Python stops the thread for ever or, up to
/// 3.13, unwinds it; so no caller is noexcept.
class Interpreter {
public:
    /// GIL. Throws std::bad_alloc.
    Interpreter();

    /// Takes the GIL with a state that is this thread's own for ever: made, if it is null. False: refused, or there was
    /// no memory. It is given up with PyEval_SaveThread.
    bool attach(_ts *&own) const;

    /// Takes the GIL on a thread that Python may know or not. False: as attach. `token` is for `release`.
    bool ensure(void *&token) const;
    static void release(void *token);

private:
    _is *const state_;
    void *view_ = nullptr; // from 3.15 on
};

} // namespace aiobridge::core
