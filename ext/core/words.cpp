// ext/core/words.cpp: fates and reasons as Python's words
#include "words.h"

namespace aiobridge::core {
namespace {

PyObject *fates, *reasons; // tuples, in the order of the codes; never released

// The members of an enumeration that has to have so many.
PyObject *members(const char *name, Py_ssize_t count) noexcept {
    const Ref module(PyImport_ImportModule("aiobridge._words"));
    const Ref type(module ? PyObject_GetAttrString(module.get(), name) : nullptr);
    Ref all(type ? PySequence_Tuple(type.get()) : nullptr);
    if (all && PyTuple_GET_SIZE(all.get()) != count)
        return raise(PyExc_ImportError, "aiobridge: %s has %zd words, and the extension module %zd; install it again",
                     name, PyTuple_GET_SIZE(all.get()), count);
    return all.release();
}

} // namespace

int init_words() noexcept {
    fates = members("Fate", AIOBRIDGE_ALREADY_SET + 1);
    reasons = fates ? members("CloseReason", AIOBRIDGE_FORKED + 1) : nullptr;
    return reasons ? 0 : -1;
}

PyObject *fate_word(aiobridge_fate fate) noexcept { return PyTuple_GET_ITEM(fates, fate); }
PyObject *reason_word(aiobridge_reason reason) noexcept { return PyTuple_GET_ITEM(reasons, reason); }

} // namespace aiobridge::core
