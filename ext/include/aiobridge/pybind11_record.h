// aiobridge/pybind11_record.h: plain structs as Python objects, at a fifth of what a bound class costs
#pragma once

#include <aiobridge/pybind11.h>

#include <cmath>
#include <cstddef>
#include <functional>
#include <initializer_list>
#include <new>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

/// At global scope, beside the struct, where every file sees it that converts one: T is a record, and this is its name
/// in Python, after its module's. Then aiobridge::record makes the type, in its module.
#define AIOBRIDGE_RECORD(T, qualified_name)                                                                            \
    template <> struct pybind11::detail::type_caster<T> : aiobridge::detail::record_caster<T> {                        \
        static constexpr auto name = const_name(qualified_name);                                                       \
        static constexpr const char *python_name = qualified_name;                                                     \
    }

AIOBRIDGE_NAMESPACE_BEGIN

/// One attribute of a record: a member that pybind11 converts to Python. `name` is a literal.
template <class T> struct record_field {
    template <class F, class C>
        requires std::is_base_of_v<C, T>
    record_field(const char *name, F C::*member)
        : name(name), get([member](const T &record) {
              auto value = pybind11::cast(record.*member);
              if (!value) // of a class that is not registered
                  throw pybind11::error_already_set();
              return value;
          }) {
        // A pointer or a view would outlive what it was converted from.
        if constexpr (!std::is_pointer_v<F> && !std::ranges::view<F> &&
                      requires(T &record, pybind11::handle value) { record.*member = value.cast<F>(); })
            set = [member](T &record, pybind11::handle value) {
                try {
                    record.*member = value.cast<F>();
                } catch (const pybind11::cast_error &) {
                    throw pybind11::type_error("does not become a " + pybind11::type_id<F>());
                }
            };
    }

    const char *name;
    std::function<pybind11::object(const T &)> get;
    std::function<void(T &, pybind11::handle)> set; // none: Python cannot make such a record
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
            throw refused("is declared with AIOBRIDGE_RECORD, and was not made: call aiobridge::record in its module");
        auto *made = PyObject_New(object, type);
        if (!made)
            throw pybind11::error_already_set();
        new (&made->value) T(std::move(value));
        return reinterpret_cast<PyObject *>(made);
    }

    void create(const pybind11::module_ &module, std::initializer_list<record_field<T>> members) {
        if (type)
            throw refused("was made before: call aiobridge::record once for each type");
        fields = members;
        attributes.clear();
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
        pybind11::list shown;
        for (const auto &field : fields)
            shown.append(pybind11::str("{}={!r}").format(field.name, field.get(value_of(self))));
        return pybind11::str("{}({})").format(pybind11::handle(reinterpret_cast<PyObject *>(type)).attr("__name__"),
                                              pybind11::str(", ").attr("join")(shown));
    }
    pybind11::object compare(PyObject *self, PyObject *other, int operation) {
        if (Py_TYPE(other) != type || (operation != Py_EQ && operation != Py_NE))
            return pybind11::reinterpret_borrow<pybind11::object>(Py_NotImplemented);
        const bool equal = self == other || values(self).equal(values(other));
        return pybind11::bool_(equal == (operation == Py_EQ));
    }
    static Py_hash_t hash(PyObject *self) {
        const auto values =
            pybind11::reinterpret_steal<pybind11::object>(guarded<&record_type::hashed_values>(self, nullptr));
        return values ? PyObject_Hash(values.ptr()) : -1;
    }
    // A NaN's hash is that of the object, and each conversion makes a new one.
    pybind11::object hashed_values(PyObject *self, PyObject *) {
        auto all = values(self);
        for (std::size_t i = 0; i < all.size(); ++i)
            if (PyFloat_Check(all[i].ptr()) && std::isnan(PyFloat_AS_DOUBLE(all[i].ptr())))
                all[i] = pybind11::none();
        return all;
    }
    pybind11::object reduce(PyObject *self, PyObject *) {
        return pybind11::make_tuple(pybind11::handle(reinterpret_cast<PyObject *>(type)), values(self));
    }
    pybind11::object copy(PyObject *self, PyObject *) {
        if constexpr (std::is_copy_constructible_v<T>)
            return pybind11::reinterpret_steal<pybind11::object>(make(value_of(self)));
        else
            throw refused("cannot be copied: the struct cannot");
    }
    pybind11::object construct(PyTypeObject *, PyObject *arguments, PyObject *keywords) {
        if constexpr (std::is_default_constructible_v<T>) {
            const auto given = arranged(arguments, keywords);
            auto made = pybind11::reinterpret_steal<pybind11::object>(make(T{}));
            for (std::size_t i = 0; i < fields.size(); ++i) {
                try {
                    fields[i].set(value_of(made.ptr()), given[i]);
                } catch (const pybind11::type_error &wrong) {
                    throw refused("cannot have {!r} as {}: it {}", given[i], fields[i].name, wrong.what());
                }
            }
            return made;
        } else {
            throw refused("is made by native code only: the struct has no default constructor");
        }
    }
    // A value for each field.
    std::vector<pybind11::object> arranged(PyObject *arguments, PyObject *keywords) const {
        const auto given = pybind11::reinterpret_borrow<pybind11::args>(arguments);
        pybind11::dict named;
        if (keywords)
            named = pybind11::reinterpret_borrow<pybind11::dict>(keywords).attr("copy")();
        if (given.size() > fields.size())
            throw refused("takes {} values, and got {}", fields.size(), given.size());
        std::vector<pybind11::object> all;
        for (const auto &field : fields) {
            const bool has_place = all.size() < given.size();
            if (!field.set)
                throw refused("is made by native code only: {} cannot be set", field.name);
            if (has_place == named.contains(field.name))
                throw refused(has_place ? "got {!r} twice" : "needs {!r}", field.name);
            all.push_back(has_place ? pybind11::object(given[all.size()]) : named.attr("pop")(field.name));
        }
        for (const auto &[field, _] : named)
            throw refused("has no attribute {!r}", field);
        return all;
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
    PyMethodDef methods[4] = {{"__reduce__", &guarded<&record_type::reduce>, METH_NOARGS, nullptr},
                              {"__copy__", &guarded<&record_type::copy>, METH_NOARGS, nullptr},
                              {"__deepcopy__", &guarded<&record_type::copy>, METH_O, nullptr},
                              {}};
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
/// An object is the struct, moved or copied: no holder, no entry in a register. Its attributes are read-only, and
/// converted each time they are read. It compares, hashes and shows itself by them, in this order; so they should be
/// values, not objects with an identity. Python code makes and unpickles one from them, if the struct has a default
/// constructor and no pointer or view among them. Native functions take it as T, const T & (which is the object's own)
/// or const T *. Not for members that refer to Python objects: it takes no part in garbage collection.
template <class T> void record(const pybind11::module_ &module, std::initializer_list<record_field<T>> fields) {
    detail::record_type<T>::one().create(module, fields);
}

AIOBRIDGE_NAMESPACE_END
