// aiobridge/promise.h: one result, later: promise<T> on the native side, future<T> on its way to Python
#pragma once

#include <aiobridge/detail/handle.h>
#include <aiobridge/detail/hook.h>
#include <aiobridge/detail/refused.h>

#include <algorithm>
#include <exception>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN

template <class T> class promise;
template <class T> class future;
template <class T>
std::pair<promise<T>, future<T>> make_promise(std::source_location = std::source_location::current());

/// Asks whether an operation should stop early. Any thread. Never blocks.
class stop_token {
public:
    /// True once the operation was cancelled, for whatever reason: nobody wants its result any more.
    bool stop_requested() const noexcept { return reason() >= close_reason::consumer_closed; }
    close_reason reason() const noexcept {
        return operation_ ? static_cast<close_reason>(detail::api().operation_reason(operation_.get()))
                          : close_reason::open;
    }
    stop_token() noexcept = default; ///< never asks to stop
    explicit stop_token(detail::operation_handle operation) noexcept : operation_(std::move(operation)) {}

private:
    detail::operation_handle operation_; // no promise: keeping a token must not keep a promise from breaking
};

/// The producer's end of one operation: a small reference, copied, called and destroyed on any thread, without the
/// GIL. The first completion wins. When the last copy goes and none has completed it, awaiting the future raises
/// BrokenPromiseError, which names the place where the promise was made.
template <class T> class promise {
public:
    /// Any thread. Never blocks, never takes the GIL. `closed`: nobody waits any more (the value is destroyed here);
    /// `already_set`: misuse, and reported to the loop's exception handler.
    template <class U = T>
        requires(!std::is_void_v<U>)
    fate set_value(std::type_identity_t<U> value) const noexcept {
        return complete(std::move(value));
    }
    template <class U = T>
        requires std::is_void_v<U>
    fate set_value() const noexcept {
        return complete(detail::unit{});
    }
    /// As set_value; awaiting the future raises the exception, translated as the binding tool translates those of a
    /// bound function.
    fate set_exception(std::exception_ptr error) const noexcept { return complete(std::move(error)); }
    template <class E>
        requires std::is_base_of_v<std::exception, std::decay_t<E>>
    fate set_exception(E &&error) const noexcept {
        return complete(std::make_exception_ptr(std::forward<E>(error)));
    }

    /// Any thread. True once nobody wants the result.
    bool cancelled() const noexcept { return token().stop_requested(); }
    /// Any thread. Why a result would be refused; `open` while it would be accepted.
    aiobridge::close_reason close_reason() const noexcept { return token().reason(); }
    /// A token for code that should stop when this operation is cancelled.
    stop_token token() const noexcept {
        if (!handle_)
            return {};
        detail::api().operation_retain(handle_.get());
        return stop_token(detail::operation_handle(handle_.get()));
    }

    /// Runs `function(cancel_reason)` when the operation is cancelled: exactly once, soon if that has happened, never
    /// if the operation completes first. It runs and is destroyed on aiobridge's hook thread, without the GIL, and may
    /// take the native library's locks. Any thread. Throws std::system_error if the hook thread cannot be started.
    template <class F> void on_cancel(F &&function) const {
        detail::install_hook(std::forward<F>(function), [this](const aiobridge_hook &hook) {
            return detail::api().operation_on_cancel(handle_.get(), &hook);
        });
    }

private:
    friend std::pair<promise<T>, future<T>> make_promise<T>(std::source_location);
    explicit promise(aiobridge_operation *operation) noexcept : handle_(operation) {}

    template <class P> fate complete(P value) const noexcept {
        if (!handle_)
            return fate::closed; // moved from
        detail::outgoing<P> payload(std::move(value));
        const auto result = detail::api().operation_complete(handle_.get(), &detail::payload<P>::type, payload.get());
        if (result == AIOBRIDGE_ACCEPTED)
            payload.taken();
        return static_cast<fate>(result);
    }

    detail::promise_handle handle_;
};

/// The consumer's end, on its way to Python, where the binding tool's caster makes it an aiobridge.Future: the same
/// object each time. When the last copy and the Python object are gone, the operation is cancelled (`abandoned`).
template <class T> class future {
public:
    /// Any thread. Cancels the operation, as cancelling the Python object does.
    void cancel() const noexcept { detail::api().operation_cancel(handle_.get(), AIOBRIDGE_CANCELLED); }
    /// For binding headers.
    const detail::future_handle &handle() const noexcept { return handle_; }

private:
    friend std::pair<promise<T>, future<T>> make_promise<T>(std::source_location);
    explicit future(aiobridge_operation *operation) noexcept : handle_(operation) {}

    detail::future_handle handle_;
};

/// A promise and its future. Any thread (the process's first use of aiobridge needs the GIL). Throws std::bad_alloc,
/// and import_error at the first use if the runtime is missing or too old.
template <class T> std::pair<promise<T>, future<T>> make_promise(std::source_location site) {
    using P = detail::payload_t<T>;
    static_assert(detail::check_payload<P>());
    const aiobridge_operation_options options{sizeof(aiobridge_operation_options),
                                              0,
                                              std::max(sizeof(P), sizeof(std::exception_ptr)),
                                              std::max(alignof(P), alignof(std::exception_ptr)),
                                              {site.file_name(), site.function_name(), site.line()}};
    auto *operation = detail::api().operation_create(&options);
    if (!operation)
        throw std::bad_alloc();
    return {promise<T>(operation), future<T>(operation)};
}

AIOBRIDGE_NAMESPACE_END
