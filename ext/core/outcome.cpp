// ext/core/outcome.cpp: what an operation was completed with, as Python objects
#include "outcome.h"

#include "operation.h"

namespace aiobridge::core {
namespace {

Ref broken_promise(const aiobridge_site &site) noexcept {
    raise(names.broken_promise_error,
          "the native side dropped its promise without a result; the promise was made at %s:%u (%s)",
          site.file ? site.file : "?", site.line, site.function ? site.function : "?");
    return take_exception();
}

} // namespace

Ref wrap_stop_iteration(Ref exception) noexcept {
    if (!PyErr_GivenExceptionMatches(exception.get(), PyExc_StopIteration))
        return exception;
    return as_runtime_error(std::move(exception), "StopIteration interacts badly with generators and cannot be raised "
                                                  "into a Future; it is the cause of this error");
}

void convert(Future *future, Ref &result, Ref &exception) noexcept {
    Operation &operation = *future->operation;
    if (const auto *type = operation.payload_type()) {
        if (type->flags & AIOBRIDGE_TYPE_ERROR)
            guarded([&] { return future->converter->error(operation.payload()), true; });
        else
            result = guarded([&] { return Ref(future->converter->value(operation.payload())); });
        if (!result) {
            exception = take_exception();
            if (!exception) {
                raise(PyExc_SystemError, "the converter of %R failed without an error", as_object(future));
                exception = take_exception();
            }
        }
        operation.destroy_payload();
    } else if (operation.reason() == AIOBRIDGE_FAILED) {
        exception = broken_promise(operation.site());
    }
}

} // namespace aiobridge::core
