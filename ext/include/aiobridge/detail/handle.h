// aiobridge/detail/handle.h: a counted reference to the runtime's object
#pragma once

#include <aiobridge/detail/runtime.h>

#include <exception>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN
namespace detail {

/// Copied, moved and destroyed on any thread, without the GIL. A handle that is not empty exists only after the
/// table was loaded, so nothing here can throw.
template <class Raw, void (*aiobridge_api::*Retain)(Raw *), auto Release> class handle {
public:
    handle() noexcept = default;
    /// Takes over a reference.
    explicit handle(Raw *raw) noexcept : raw_(raw) {}
    handle(const handle &other) noexcept : raw_(other.raw_) {
        if (raw_)
            (api().*Retain)(raw_);
    }
    handle(handle &&other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
    handle &operator=(handle other) noexcept {
        std::swap(raw_, other.raw_);
        return *this;
    }
    ~handle() {
        if (raw_)
            release(Release);
    }
    Raw *get() const noexcept { return raw_; }
    explicit operator bool() const noexcept { return raw_ != nullptr; }

private:
    void release(void (*aiobridge_api::*function)(Raw *)) noexcept { (api().*function)(raw_); }
    void release(void (*function)(Raw *)) noexcept { function(raw_); }
    Raw *raw_ = nullptr;
};

// A writer that goes while an exception unwinds its thread was not done.
inline void release_writer(aiobridge_stream *stream) noexcept {
    api().writer_release(stream, std::uncaught_exceptions() > 0);
}

using operation_handle =
    handle<aiobridge_operation, &aiobridge_api::operation_retain, &aiobridge_api::operation_release>;
using promise_handle = handle<aiobridge_operation, &aiobridge_api::promise_retain, &aiobridge_api::promise_release>;
using future_handle = handle<aiobridge_operation, &aiobridge_api::future_retain, &aiobridge_api::future_release>;
using writer_handle = handle<aiobridge_stream, &aiobridge_api::writer_retain, &release_writer>;
using consumer_handle = handle<aiobridge_stream, &aiobridge_api::consumer_retain, &aiobridge_api::consumer_release>;

} // namespace detail
AIOBRIDGE_NAMESPACE_END
