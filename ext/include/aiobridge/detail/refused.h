// aiobridge/detail/refused.h: the end of an error that the runtime did not take
#pragma once

#include <aiobridge/detail/payload.h>
#include <aiobridge/detail/runtime.h>

AIOBRIDGE_NAMESPACE_BEGIN
namespace detail {

/// Ends an error that the runtime has refused. It may own a Python exception, whose end takes the GIL; so it goes the
/// way of an operation's error that nobody takes. After the interpreter's exit it stays for ever. Any thread.
inline void end_refused(std::exception_ptr *error) noexcept {
    const aiobridge_operation_options options{
        sizeof(aiobridge_operation_options), 0, sizeof(std::exception_ptr), alignof(std::exception_ptr), {}};
    if (aiobridge_operation *operation = api().operation_create(&options)) {
        api().operation_complete(operation, &error_payload::type, error);
        api().promise_release(operation);
        api().future_release(operation);
    }
}

} // namespace detail
AIOBRIDGE_NAMESPACE_END
