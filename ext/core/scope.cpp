// ext/core/scope.cpp: what was made inside `async with aiobridge.scope()`
#include "scope.h"

#include "notice.h"
#include "operation.h"
#include "pause.h"

#include <new>
#include <vector>

namespace aiobridge::core {
namespace {

struct ScopeObject {
    PyObject_HEAD
    Scope *scope;
    PyObject *name; // for messages
};

PyTypeObject *scope_type;
PyObject *current_variable; // a ContextVar; never released

void complete(Operation *waiter) noexcept {
    give_notice(*waiter);
    waiter->release_promise();
}

} // namespace

Scope::Entry::Entry(Scope &scope_, const ScopedKind &kind_, void *object_) noexcept
    : scope(scope_), kind(kind_), object(object_) {
    scope.retain();
    scope.entries_.add(*this);
}

void Scope::Entry::done() noexcept {
    Operation *waiter = nullptr;
    scope.entries_.remove(*this, [&](bool none_left) {
        if (none_left)
            waiter = std::exchange(scope.waiter_, nullptr);
    });
    if (waiter)
        complete(waiter);
    scope.release();
    delete this;
}

int OpenEnds::enter(const ScopedKind &kind, void *object) noexcept {
    const Ref current = Scope::current();
    if (!current)
        return PyErr_Occurred() ? -1 : 0;
    Scope &scope = Scope::of(current.get());
    if (scope.is_left()) {
        raise(names.closed_error,
              "%R was left, and nothing native can be started in it any more; await or cancel the tasks that were "
              "started inside before the end of the block",
              current.get());
        return -1;
    }
    auto *entry = new (std::nothrow) Scope::Entry(scope, kind, object);
    if (!entry) {
        PyErr_NoMemory();
        return -1;
    }
    AIOBRIDGE_PAUSE("scope.enter");
    entry_.store(entry);
    AIOBRIDGE_PAUSE("scope.entered");
    if (count_.load() == 0)
        finish();
    return 0;
}

void OpenEnds::finish() noexcept {
    if (Scope::Entry *entry = entry_.exchange(nullptr))
        entry->done();
}

void Scope::release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1)
        delete this;
}

Scope &Scope::of(PyObject *scope) noexcept { return *reinterpret_cast<ScopeObject *>(scope)->scope; }

Ref Scope::current() noexcept {
    if (live() == 0)
        return Ref();
    PyObject *value = nullptr;
    if (PyContextVar_Get(current_variable, nullptr, &value) != 0 || !value)
        return Ref();
    Ref current(value);
    return Py_TYPE(value) == scope_type ? std::move(current) : Ref();
}

struct Scope::Methods {
    // References to all objects that are in the scope, newest first, to be used without the roster's lock.
    class Objects {
    public:
        Objects() noexcept = default;
        ~Objects() {
            for (const auto &[kind, object] : all_)
                kind->release(object);
        }
        Objects(const Objects &) = delete;
        Objects &operator=(const Objects &) = delete;
        /// False with MemoryError. The entries themselves may go meanwhile, so what is needed of them is copied.
        bool find(Scope &scope) noexcept {
            try {
                scope.entries_.for_each(
                    [this](Entry &entry) {
                        all_.emplace_back(&entry.kind, entry.object);
                        entry.kind.retain(entry.object);
                    },
                    [] {});
                return true;
            } catch (const std::bad_alloc &) {
                PyErr_NoMemory();
                return false;
            }
        }
        auto begin() const noexcept { return all_.begin(); }
        auto end() const noexcept { return all_.end(); }

    private:
        std::vector<std::pair<const ScopedKind *, void *>> all_;
    };

    static PyObject *leave(PyObject *self, PyObject *) noexcept {
        Scope &scope = of(self);
        scope.left_.store(true, std::memory_order_relaxed);
        Objects objects;
        const Ref why = formatted("%R was left", self);
        if (!why || !objects.find(scope))
            return nullptr;
        Ref interrupt;
        for (const auto &[kind, object] : objects)
            if (kind->leave(object, why.get()) != 0)
                interrupt = take_exception();
        if (interrupt) {
            set_exception(interrupt.get());
            return nullptr;
        }
        Py_RETURN_NONE;
    }

    // A Future that is done when nothing is left. One at a time.
    static PyObject *wait(PyObject *self, PyObject *) noexcept {
        Scope &scope = of(self);
        Ref future;
        Operation *notice = make_notice({__FILE__, __func__, __LINE__}, future);
        if (!notice)
            return nullptr;
        bool any = false;
        Operation *previous = nullptr;
        scope.entries_.for_each([&](Entry &) { any = true; },
                                [&] {
                                    if (any)
                                        previous = std::exchange(scope.waiter_, notice);
                                });
        if (!any)
            complete(notice);
        if (previous)
            previous->release_promise();
        return future.release();
    }

    static PyObject *left_behind(PyObject *self, PyObject *) noexcept {
        Objects objects;
        Ref descriptions = new_list();
        if (!descriptions || !objects.find(of(self)))
            return nullptr;
        for (const auto &[kind, object] : objects) {
            const Ref text(kind->describe(object));
            if (!text || PyList_Append(descriptions.get(), text.get()) != 0)
                return nullptr;
        }
        return descriptions.release();
    }

    static PyObject *is_left(PyObject *self, void *) noexcept { return PyBool_FromLong(of(self).is_left()); }

    static PyObject *create(PyTypeObject *type, PyObject *arguments, PyObject *keywords) noexcept {
        static const char *names_[] = {"name", nullptr};
        PyObject *name = nullptr;
        if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O:Scope", const_cast<char **>(names_), &name))
            return nullptr;
        Ref self(type->tp_alloc(type, 0));
        if (!self)
            return nullptr;
        auto *object = reinterpret_cast<ScopeObject *>(self.get());
        object->scope = new (std::nothrow) Scope;
        if (!object->scope)
            return PyErr_NoMemory();
        object->name = Ref::borrow(name).release();
        return self.release();
    }

    static PyObject *repr(PyObject *self) noexcept {
        return formatted("<aiobridge.Scope %S>", reinterpret_cast<ScopeObject *>(self)->name).release();
    }

    static void dealloc(PyObject *self) noexcept {
        PyTypeObject *type = Py_TYPE(self);
        auto *object = reinterpret_cast<ScopeObject *>(self);
        const Ref name(std::exchange(object->name, nullptr));
        if (object->scope)
            object->scope->release();
        type->tp_free(self);
        Py_DECREF(type);
    }
};

int register_scope(PyObject *module) noexcept {
    static PyMethodDef methods[] = {
        {"leave", Scope::Methods::leave, METH_NOARGS, nullptr},
        {"wait", Scope::Methods::wait, METH_NOARGS, nullptr},
        {"left_behind", Scope::Methods::left_behind, METH_NOARGS, nullptr},
        {nullptr, nullptr, 0, nullptr},
    };
    static PyGetSetDef attributes[] = {
        {"is_left", Scope::Methods::is_left, nullptr, nullptr, nullptr},
        {nullptr, nullptr, nullptr, nullptr, nullptr},
    };
    static PyType_Slot slots[] = {
        {Py_tp_new, reinterpret_cast<void *>(Scope::Methods::create)},
        {Py_tp_dealloc, reinterpret_cast<void *>(Scope::Methods::dealloc)},
        {Py_tp_repr, reinterpret_cast<void *>(Scope::Methods::repr)},
        {Py_tp_methods, methods},
        {Py_tp_getset, attributes},
        {0, nullptr},
    };
    static PyType_Spec spec = {"aiobridge._core.Scope", sizeof(ScopeObject), 0, Py_TPFLAGS_DEFAULT, slots};
    scope_type = reinterpret_cast<PyTypeObject *>(PyType_FromModuleAndSpec(module, &spec, nullptr));
    current_variable = scope_type ? PyContextVar_New("aiobridge.scope", nullptr) : nullptr;
    return current_variable && PyModule_AddObjectRef(module, "current_scope", current_variable) == 0 &&
                   PyModule_AddObjectRef(module, "Scope", reinterpret_cast<PyObject *>(scope_type)) == 0
               ? 0
               : -1;
}

} // namespace aiobridge::core
