// ext/core/counts.cpp: the figures of a stream as a Python object
#include "counts.h"

namespace aiobridge::core {

PyObject *make_stream_stats(const Counts &counts) noexcept {
    const struct {
        const char *name;
        std::uint64_t value;
    } fields[] = {
        {"accepted", counts.accepted},
        {"delivered", counts.delivered},
        {"evicted", counts.evicted},
        {"merged", counts.merged},
        {"undelivered", counts.undelivered},
        {"pending", counts.pending},
        {"full", counts.refused[AIOBRIDGE_FULL]},
        {"dropped", counts.refused[AIOBRIDGE_DROPPED]},
        {"closed", counts.refused[AIOBRIDGE_CLOSED]},
        {"timed_out", counts.refused[AIOBRIDGE_TIMED_OUT]},
        {"would_deadlock", counts.refused[AIOBRIDGE_WOULD_DEADLOCK]},
        {"no_memory", counts.refused[AIOBRIDGE_NO_MEMORY]},
    };
    const Ref keywords = new_dict(), none(PyTuple_New(0));
    if (!keywords || !none)
        return nullptr;
    for (const auto &[name, value] : fields) {
        const Ref number(PyLong_FromUnsignedLongLong(value));
        if (!number || PyDict_SetItemString(keywords.get(), name, number.get()) != 0)
            return nullptr;
    }
    return guarded([&] { return PyObject_Call(names.stream_stats, none.get(), keywords.get()); });
}

} // namespace aiobridge::core
