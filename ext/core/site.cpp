// ext/core/site.cpp: the place in Python code where something was made
#include "site.h"

#include "locked.h"

#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <unordered_set>

namespace aiobridge::core {
namespace {

struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
};

// GIL. Never destroyed: sites are asked for after the interpreter is gone.
auto *kept_strings = new std::unordered_set<std::string, Hash, std::equal_to<>>;
PythonLock kept_lock;

const char *keep(PyObject *text) noexcept {
    Py_ssize_t size = 0;
    const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, &size) : nullptr;
    if (!utf8) {
        clear_error(); // a file name that is not UTF-8
        return "?";
    }
    const std::string_view key(utf8, static_cast<std::size_t>(size));
    try {
        const std::lock_guard lock(kept_lock);
        const auto found = kept_strings->find(key);
        return (found != kept_strings->end() ? found : kept_strings->emplace(key).first)->c_str();
    } catch (const std::bad_alloc &) {
        return "?";
    }
}

bool is_ours(PyFrameObject *frame) noexcept {
    const Ref globals(PyFrame_GetGlobals(frame));
    const Ref name(guarded([&] { return PyObject_GetItem(globals.get(), names.name_attribute); }));
    const char *utf8 = name && PyUnicode_Check(name.get()) ? PyUnicode_AsUTF8(name.get()) : nullptr;
    clear_error();
    return utf8 && std::strncmp(utf8, "aiobridge.", std::strlen("aiobridge.")) == 0;
}

} // namespace

aiobridge_site calling_site() noexcept {
    // A frame is made an object where it is asked for, and takes part in garbage collection.
    Ref frame = Ref::borrow(reinterpret_cast<PyObject *>(guarded(PyEval_GetFrame)));
    const auto as_frame = [&] { return reinterpret_cast<PyFrameObject *>(frame.get()); };
    while (frame && is_ours(as_frame()))
        frame = Ref(reinterpret_cast<PyObject *>(guarded([&] { return PyFrame_GetBack(as_frame()); })));
    if (!frame)
        return {"?", "?", 0};
    const Ref code(reinterpret_cast<PyObject *>(PyFrame_GetCode(as_frame())));
    const auto *fields = reinterpret_cast<PyCodeObject *>(code.get());
    return {keep(fields->co_filename), keep(fields->co_qualname),
            static_cast<std::uint32_t>(PyFrame_GetLineNumber(as_frame()))};
}

Ref short_text(const aiobridge_site &site) noexcept {
    const char *file = site.file ? site.file : "?", *slash = std::strrchr(file, '/');
    return Ref(PyUnicode_FromFormat("%s:%u", slash ? slash + 1 : file, site.line));
}

} // namespace aiobridge::core
