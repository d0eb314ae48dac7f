// aiobridge/pybind11_record.h: plain structs as Python objects, at a sixth of what a bound class costs
#pragma once

#include <aiobridge/pybind11.h>

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

/// At global scope, before the first use: T is a record, and this is its name in Python, after its module's. Then
/// aiobridge::record makes the type, in its module.
#define AIOBRIDGE_RECORD(T, qualified_name)                                                                            \
    template <> struct pybind11::detail::type_caster<T> : aiobridge::detail::record_caster<T> {                        \
        static constexpr auto name = const_name(qualified_name);                                                       \
        static constexpr const char *python_name = qualified_name;                                                     \
    }

AIOBRIDGE_NAMESPACE_BEGIN

/// One attribute of a record: any member that pybind11 converts.
template <class T> struct record_field {
    template <class F, class C>
        requires std::is_base_of_v<C, T>
    record_field(const char *name, F C::*member)
        : name(name), get([member](const T &record) { return pybind11::cast(record.*member); }),
          set([member](T &record, pybind11::handle value) { record.*member = value.cast<F>(); }) {}

    const char *name;
    std::function<pybind11::object(const T &)> get;
    std::function<void(T &, pybind11::handle)> set;
};

namespace detail {

/// The Python type of a record. All of it with the GIL.
template <class T> struct record_type {
    static_assert(std::is_nothrow_move_constructible_v<T>, "a record moves without throwing");
    static_assert(alignof(T) <= alignof(std::max_align_t), "Python aligns its objects as malloc does");

    /// Never destroyed: objects outlive modules.
    static record_type &one() {
        static auto *only = new record_type;
        return *only;
    }
    static T &value_of(PyObject *self) { return reinterpret_cast<object *>(self)->value; }

    /// A new object, or an exception.
    PyObject *make(T value) const {
        if (!type)
            throw pybind11::type_error(std::string(name()) + " is declared with AIOBRIDGE_RECORD, and was not made: "
                                                             "call aiobridge::record in its module");
        auto *made = PyObject_New(object, type);
        if (!made)
            throw pybind11::error_already_set();
        new (&made->value) T(std::move(value));
        return reinterpret_cast<PyObject *>(made);
    }

    void create(const pybind11::module_ &module, std::initializer_list<record_field<T>> members) {
        if (type)
            throw pybind11::type_error(std::string(name()) + " was made before");
        fields = members;
        for (auto &field : fields)
            attributes.push_back({field.name, guarded<&record_type::attribute>, nullptr, nullptr, &field});
        attributes.push_back({});
        PyType_Slot slots[] = {{Py_tp_getset, attributes.data()},
                               {Py_tp_dealloc, slot<destructor>(&destroy)},
                               {Py_tp_repr, slot<reprfunc>(&guarded<&record_type::repr>)},
                               {Py_tp_richcompare, slot<richcmpfunc>(&guarded<&record_type::compare>)},
                               {Py_tp_hash, slot<hashfunc>(&hash)},
                               {Py_tp_new, slot<newfunc>(&guarded<&record_type::construct>)},
                               {Py_tp_methods, methods},
                               {0, nullptr}};
        PyType_Spec spec{name(), static_cast<int>(sizeof(object)), 0, Py_TPFLAGS_DEFAULT, slots};
        const auto made = pybind11::reinterpret_steal<pybind11::object>(PyType_FromSpec(&spec));
        if (!made)
            throw pybind11::error_already_set();
        pybind11::tuple names(fields.size());
        for (std::size_t i = 0; i < fields.size(); ++i)
            names[i] = pybind11::str(fields[i].name);
        made.attr("__match_args__") = names;
        made.attr("__module__") = module.attr("__name__");
        module.attr(made.attr("__name__")) = made;
        type = reinterpret_cast<PyTypeObject *>(made.inc_ref().ptr());
    }

    PyTypeObject *type = nullptr;

private:
    struct object {
        PyObject head;
        T value;
    };

    template <class F> static void *slot(F function) { return reinterpret_cast<void *>(function); }
    static constexpr const char *name() { return pybind11::detail::type_caster<T>::python_name; }

    pybind11::tuple values(PyObject *self) const {
        pybind11::tuple values(fields.size());
        for (std::size_t i = 0; i < fields.size(); ++i)
            values[i] = fields[i].get(value_of(self));
        return values;
    }

    // Python calls these, and takes null for an exception.
    template <auto function, class... Args> static PyObject *guarded(Args... arguments) noexcept(false) {
        try {
            return (one().*function)(arguments...).release().ptr();
        }
        AIOBRIDGE_RETHROW_FORCED_UNWIND
        catch (...) {
            pybind11_binding::set_error();
            return nullptr;
        }
    }
    pybind11::object attribute(PyObject *self, void *field) {
        return static_cast<record_field<T> *>(field)->get(value_of(self));
    }
    pybind11::object repr(PyObject *self) {
        pybind11::str text(pybind11::handle(reinterpret_cast<PyObject *>(type)).attr("__name__"));
        const char *separator = "(";
        for (const auto &field : fields) {
            text = pybind11::str("{}{}{}={!r}").format(text, separator, field.name, field.get(value_of(self)));
            separator = ", ";
        }
        return pybind11::str("{})").format(text);
    }
    pybind11::object compare(PyObject *self, PyObject *other, int operation) {
        if (Py_TYPE(other) != type || (operation != Py_EQ && operation != Py_NE))
            return pybind11::reinterpret_borrow<pybind11::object>(Py_NotImplemented);
        return pybind11::bool_(values(self).equal(values(other)) == (operation == Py_EQ));
    }
    static Py_hash_t hash(PyObject *self) {
        const auto values =
            pybind11::reinterpret_steal<pybind11::object>(guarded<&record_type::values_of>(self, nullptr));
        return values ? PyObject_Hash(values.ptr()) : -1;
    }
    pybind11::object values_of(PyObject *self, PyObject *) { return values(self); }
    // For copy and pickle.
    pybind11::object reduce(PyObject *self, PyObject *) {
        return pybind11::make_tuple(pybind11::handle(reinterpret_cast<PyObject *>(type)), values(self));
    }
    pybind11::object construct(PyTypeObject *, PyObject *arguments, PyObject *keywords) {
        if constexpr (std::is_default_constructible_v<T>) {
            const auto given = pybind11::reinterpret_borrow<pybind11::args>(arguments);
            pybind11::dict named;
            if (keywords)
                named = pybind11::reinterpret_borrow<pybind11::dict>(keywords).attr("copy")();
            if (given.size() > fields.size())
                throw refused("takes {} values, and got {}", fields.size(), given.size());
            T value{};
            for (std::size_t i = 0; i < fields.size(); ++i) {
                const char *field = fields[i].name;
                if ((i < given.size()) == named.contains(field))
                    throw refused(i < given.size() ? "got {!r} twice" : "needs {!r}", field);
                const pybind11::object one = i < given.size() ? pybind11::object(given[i]) : named.attr("pop")(field);
                try {
                    fields[i].set(value, one);
                } catch (const pybind11::cast_error &) {
                    throw refused("cannot have {!r} as {}", one, field);
                }
            }
            for (const auto &[field, _] : named)
                throw refused("has no attribute {!r}", field);
            return pybind11::reinterpret_steal<pybind11::object>(make(std::move(value)));
        } else {
            throw refused("is made by native code only");
        }
    }
    template <class... Args> static pybind11::type_error refused(const char *what, Args &&...values) {
        return pybind11::type_error(std::string(name()) + " " +
                                    std::string(pybind11::str(what).format(std::forward<Args>(values)...)));
    }
    static void destroy(PyObject *self) {
        value_of(self).~T();
        PyTypeObject *type = Py_TYPE(self);
        type->tp_free(self);
        Py_DECREF(type);
    }

    std::vector<record_field<T>> fields;
    std::vector<PyGetSetDef> attributes;
    PyMethodDef methods[2] = {{"__reduce__", &guarded<&record_type::reduce>, METH_NOARGS, nullptr}, {}};
};

/// Arguments are references into the Python object.
template <class T> class record_caster {
public:
    template <class U> using cast_op_type = pybind11::detail::cast_op_type<U>;
    bool load(pybind11::handle source, bool) {
        if (Py_TYPE(source.ptr()) != record_type<T>::one().type)
            return false;
        value_ = &record_type<T>::value_of(source.ptr());
        return true;
    }
    operator T *() { return value_; }
    operator T &() { return *value_; }
    static pybind11::handle cast(const T &value, pybind11::return_value_policy, pybind11::handle) {
        return record_type<T>::one().make(value);
    }
    static pybind11::handle cast(T &&value, pybind11::return_value_policy, pybind11::handle) {
        return record_type<T>::one().make(std::move(value));
    }

private:
    T *value_ = nullptr;
};

} // namespace detail

/// Makes the Python type of a struct that AIOBRIDGE_RECORD has declared, and adds it to its module. GIL.
///     struct Tick { std::int64_t ns; double price; };
///     AIOBRIDGE_RECORD(Tick, "feed.Tick");
///     PYBIND11_MODULE(feed, m) { aiobridge::record<Tick>(m, {{"ns", &Tick::ns}, {"price", &Tick::price}}); }
/// An object is the struct, moved or copied: no holder, no entry in a register. Its attributes are read-only and
/// converted when they are read. It compares, hashes, shows itself, is copied and pickled by them, in this order, and
/// is made by Python code with them. Not for members that refer to Python objects: it takes no part in garbage
/// collection.
template <class T> void record(const pybind11::module_ &module, std::initializer_list<record_field<T>> fields) {
    detail::record_type<T>::one().create(module, fields);
}

AIOBRIDGE_NAMESPACE_END
