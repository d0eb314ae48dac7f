// ext/core/locked.h: what the GIL does for us where there is one, and what stands in for it where there is none
//
// "GIL" in the contracts of this folder means, in a free-threaded build: a thread state that is attached. What is
// marked as guarded by the GIL is there guarded by one of these. In other builds they are nothing at all.
#pragma once

#include "python.h"

#include <atomic>
#include <mutex>

namespace aiobridge::core {

/// The fields of one Python object, for the time of a block. Python gives the lock up whenever the thread waits or is
/// stopped, exactly as it would give up the GIL; so it cannot deadlock, and whatever calls Python finds the fields
/// changed, as with the GIL. No foreign code is called inside: it could run for long, and another thread that only
/// asks done() would wait for it.
class Locked {
public:
#if defined(Py_GIL_DISABLED)
    // Guarded: who waits for the lock lets go of the interpreter, and may not come back while that exits.
    explicit Locked(PyObject *object) noexcept {
        guarded([&] { return PyCriticalSection_Begin(&section_, object), true; });
    }
    ~Locked() { PyCriticalSection_End(&section_); }

private:
    PyCriticalSection section_;
#else
    explicit Locked(PyObject *) noexcept {}
    ~Locked() {} // not trivial, or the compiler takes it for an unused variable

public:
#endif
    Locked(const Locked &) = delete;
    Locked &operator=(const Locked &) = delete;
};

/// A few words that several Python objects share. Held over them alone: no Python code, no other lock.
class PythonLock {
public:
#if defined(Py_GIL_DISABLED)
    void lock() noexcept {
        guarded([&] { return PyMutex_Lock(&mutex_), true; }); // as Locked
    }
    void unlock() noexcept { PyMutex_Unlock(&mutex_); }

private:
    PyMutex mutex_{};
#else
    void lock() noexcept {}
    void unlock() noexcept {}
#endif
};

#if defined(Py_GIL_DISABLED)
/// Any thread that holds a reference: try_retain() may be asked of the object from now on.
inline void allow_try_retain(PyObject *object) noexcept {
#if PY_VERSION_HEX >= 0x030e0000
    PyUnstable_EnableTryIncRef(object);
#else
    // What Python 3.13 does for weak references, without an interface: the mark keeps the object's end from taking the
    // short way, on which nobody could tell that it has begun.
    const std::atomic_ref shared(object->ob_ref_shared);
    Py_ssize_t seen = shared.load(std::memory_order_relaxed);
    while (!(seen & _Py_REF_SHARED_FLAG_MASK) &&
           !shared.compare_exchange_weak(seen, seen | _Py_REF_MAYBE_WEAKREF, std::memory_order_relaxed)) {
    }
#endif
}

/// A reference to an object that another thread may be about to free; false if it is. The memory is kept from being
/// freed by the caller's lock, which the object's end takes too.
inline bool try_retain(PyObject *object) noexcept {
#if PY_VERSION_HEX >= 0x030e0000
    return PyUnstable_TryIncRef(object);
#else
    if (_Py_IsOwnedByCurrentThread(object)) {
        Py_INCREF(object);
        return true;
    }
    const std::atomic_ref shared(object->ob_ref_shared);
    Py_ssize_t seen = shared.load(std::memory_order_relaxed);
    do {
        if (seen == 0 || seen == _Py_REF_MERGED)
            return false;
        // Acquire: what the thread that had the last reference did to the object.
    } while (!shared.compare_exchange_weak(seen, seen + (Py_ssize_t{1} << _Py_REF_SHARED_SHIFT),
                                           std::memory_order_acq_rel, std::memory_order_relaxed));
    return true;
#endif
}
#else
inline void allow_try_retain(PyObject *) noexcept {}
inline bool try_retain(PyObject *object) noexcept {
    Py_INCREF(object);
    return true;
}
#endif

/// A native object's pointer to the Python object that owns it, which clears it at its end. GIL.
template <class T> class Borrowed {
public:
    /// A new reference; null if there is no object, or its end has begun.
    Ref get() noexcept {
        const std::lock_guard lock(lock_);
        PyObject *object = reinterpret_cast<PyObject *>(object_);
        return object && try_retain(object) ? Ref(object) : Ref();
    }
    /// Once. False: another object was faster; there is only ever one.
    bool set(T *object) noexcept {
        const std::lock_guard lock(lock_);
        if (was_set_)
            return false;
        allow_try_retain(reinterpret_cast<PyObject *>(object));
        object_ = object;
        return was_set_ = true;
    }
    void clear() noexcept {
        const std::lock_guard lock(lock_);
        object_ = nullptr;
    }
    bool was_set() noexcept {
        const std::lock_guard lock(lock_);
        return was_set_;
    }

private:
    T *object_ = nullptr;
    bool was_set_ = false;
    [[no_unique_address]] PythonLock lock_;
};

} // namespace aiobridge::core
