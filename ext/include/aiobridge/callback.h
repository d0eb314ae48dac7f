// aiobridge/callback.h: a Python callable that native threads hold, call and destroy without the GIL
#pragma once

#include <aiobridge/detail/handle.h>
#include <aiobridge/detail/hook.h>
#include <aiobridge/detail/payload.h>
#include <aiobridge/detail/signature.h>
#include <aiobridge/stream.h>

#include <chrono>
#include <cstddef>
#include <exception>
#include <future>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN

/// A Python exception that came out of a callback, in words. It holds no Python object, so any thread may keep it.
class python_error : public std::runtime_error {
public:
    python_error(std::string type, std::string message, std::string traceback)
        : std::runtime_error(message.empty() ? type : type + ": " + message), type_(std::move(type)),
          message_(std::move(message)), traceback_(std::move(traceback)) {}
    /// "ValueError", "package.module.Error"
    const std::string &type() const noexcept { return type_; }
    /// str(exception)
    const std::string &message() const noexcept { return message_; }
    /// As Python prints it, several lines.
    const std::string &traceback() const noexcept { return traceback_; }

private:
    std::string type_, message_, traceback_;
};

/// A call was not made. `what_happened()`: closed (see `reason()`), would_deadlock, evicted_oldest (a younger call took
/// its place), or what the limit's policy answered.
class call_refused : public std::runtime_error {
public:
    call_refused(fate what, close_reason reason)
        : std::runtime_error(describe(what)), what_happened_(what), reason_(reason) {}
    fate what_happened() const noexcept { return what_happened_; }
    close_reason reason() const noexcept { return reason_; }

private:
    static const char *describe(fate what) noexcept {
        switch (what) {
        case fate::closed: return "aiobridge: a callback was not called: its loop is closed, or the interpreter exits";
        case fate::would_deadlock:
            return "aiobridge: a callback was not called: waiting for it on its loop's thread, or with the GIL, would "
                   "be "
                   "for ever; call it from another thread, or do not wait";
        case fate::evicted_oldest: return "aiobridge: a callback was not called: a younger call took its place";
        default: return "aiobridge: a callback was not called: as many calls wait as its limit allows";
        }
    }
    fate what_happened_;
    close_reason reason_;
};

/// How many calls of a coroutine function run at a time, and what happens to more of them.
struct callback_limit {
    std::size_t running = 1;                         ///< at least 1
    std::size_t waiting = 1024;                      ///< that have not started, at least 1
    aiobridge::overflow overflow = overflow::refuse; ///< as for streams, for the calls that wait; not conflate
    std::chrono::nanoseconds timeout = std::chrono::nanoseconds::max(); ///< `block`
};

template <class Signature> class callback;

namespace detail {

using callback_handle = handle<aiobridge_callback, &aiobridge_api::callback_retain, &aiobridge_api::callback_release>;

/// How a binding tool makes the arguments and reads the result. GIL. `result` answers false with a Python error set.
template <class R, class... Args> struct call_converter {
    aiobridge_pyobject *(*arguments)(std::tuple<Args...> &);
    bool (*result)(aiobridge_pyobject *, std::optional<payload_t<R>> &);
};

// What travels: the arguments, the way to convert them, and for call() the promise.
template <class R, class... Args> struct fired {
    const call_converter<R, Args...> *converter;
    std::tuple<Args...> arguments;
};
template <class R, class... Args> struct waited : fired<R, Args...> {
    std::promise<R> promise;
};

template <class Call> aiobridge_pyobject *call_arguments(void *payload) {
    auto *call = static_cast<Call *>(payload);
    return call->converter->arguments(call->arguments);
}
template <class R, class... Args> std::int32_t call_value(void *payload, aiobridge_pyobject *object) {
    auto *call = static_cast<waited<R, Args...> *>(payload);
    std::optional<payload_t<R>> result;
    if constexpr (std::is_void_v<R>) {
        call->promise.set_value();
    } else {
        if (!call->converter->result(object, result))
            return -1;
        call->promise.set_value(std::move(*result));
    }
    return 0;
}
template <class R, class... Args> void call_error(void *payload, const aiobridge_call_error *error) {
    auto &promise = static_cast<waited<R, Args...> *>(payload)->promise;
    try {
        if (error->fate == AIOBRIDGE_ACCEPTED)
            promise.set_exception(std::make_exception_ptr(python_error(error->type, error->message, error->traceback)));
        else
            promise.set_exception(std::make_exception_ptr(
                call_refused(static_cast<fate>(error->fate), static_cast<close_reason>(error->reason))));
    } catch (const std::bad_alloc &) { // for the words
        promise.set_exception(std::current_exception());
    }
}

template <class R, class... Args>
inline constexpr aiobridge_call_type fired_type{
    sizeof(aiobridge_call_type),        0,       &payload<fired<R, Args...>>::type,
    &call_arguments<fired<R, Args...>>, nullptr, nullptr};
template <class R, class... Args>
inline constexpr aiobridge_call_type waited_type{
    sizeof(aiobridge_call_type),         AIOBRIDGE_CALL_WAITED,   &payload<waited<R, Args...>>::type,
    &call_arguments<waited<R, Args...>>, &call_value<R, Args...>, &call_error<R, Args...>};

} // namespace detail

/// A Python function or coroutine function, as a parameter of a bound function. Small, copied, called and destroyed on
/// any thread, without the GIL. Each call runs on the loop on which the callback was made (where the bound function was
/// called), in a copy of the context (contextvars) of that place. When the last copy is gone and its calls are done,
/// the function is let go, on the loop.
template <class R, class... Params> class callback<R(Params...)> {
    static_assert((detail::check_parameter<Params>() && ... && detail::check_result<R>()));

public:
    /// Holds nothing: calls are refused as closed.
    callback() noexcept = default;
    /// For binding headers.
    callback(aiobridge_callback *raw,
             const detail::call_converter<R, std::remove_cvref_t<Params>...> &converter) noexcept
        : handle_(raw), converter_(&converter) {}

    /// Fire and forget. Any thread, without waiting (but for a limit with `block`). What the function returns is
    /// ignored; an exception goes to the loop's exception handler. The answer is the fate of the call: a refused one
    /// destroys its arguments here. Throws what copying the arguments throws.
    fate operator()(Params... args) const {
        if (!handle_)
            return fate::closed;
        return post(detail::fired_type<R, std::remove_cvref_t<Params>...>,
                    fired{converter_, {std::forward<Params>(args)...}});
    }

    /// The result, later. Any thread; on the loop's own, and on one that holds the GIL, where waiting would be for
    /// ever, the future has failed already. It throws python_error, or call_refused if the call was not made; it is
    /// never left waiting, whatever becomes of the loop. Throws what copying the arguments throws.
    std::future<R> call(Params... args) const {
        std::promise<R> promise;
        std::future<R> result = promise.get_future();
        detail::outgoing<waited> item(waited{{converter_, {std::forward<Params>(args)...}}, std::move(promise)});
        const auto what =
            handle_ ? detail::api().callback_call(handle_.get(),
                                                  &detail::waited_type<R, std::remove_cvref_t<Params>...>, item.get())
                    : aiobridge_fate{AIOBRIDGE_CLOSED};
        if (what <= AIOBRIDGE_MERGED) {
            item.taken();
        } else {
            const aiobridge_call_error error{
                sizeof error, what, static_cast<aiobridge_reason>(close_reason()), 0, nullptr, nullptr, nullptr};
            detail::call_error<R, std::remove_cvref_t<Params>...>(item.get(), &error);
        }
        return result;
    }

    /// Before the first call, once: for all copies. Throws std::invalid_argument for a count of 0 or a policy that
    /// calls cannot have, and std::logic_error when it comes too late.
    void limit(const callback_limit &limit) const {
        const aiobridge_limit raw{sizeof(aiobridge_limit), static_cast<aiobridge_overflow>(limit.overflow),
                                  limit.running, limit.waiting, detail::nanoseconds_or_for_ever(limit.timeout)};
        switch (detail::api().callback_limit(handle_.get(), &raw)) {
        case 0: return;
        case -2: throw std::invalid_argument("aiobridge: callback::limit: running and waiting must be at least 1");
        case -3:
            throw std::invalid_argument("aiobridge: callback::limit: calls cannot have overflow policy " +
                                        std::to_string(raw.overflow));
        default: throw std::logic_error("aiobridge: callback::limit: it has a limit, or was called, already");
        }
    }

    /// Any thread. `open` while calls may be made.
    aiobridge::close_reason close_reason() const noexcept {
        return handle_ ? static_cast<aiobridge::close_reason>(detail::api().callback_reason(handle_.get()))
                       : aiobridge::close_reason::finished;
    }
    explicit operator bool() const noexcept { return static_cast<bool>(handle_); }

private:
    using fired = detail::fired<R, std::remove_cvref_t<Params>...>;
    using waited = detail::waited<R, std::remove_cvref_t<Params>...>;

    fate post(const aiobridge_call_type &type, fired &&call) const {
        detail::outgoing<fired> item(std::move(call));
        const auto result = detail::api().callback_call(handle_.get(), &type, item.get());
        if (result <= AIOBRIDGE_MERGED)
            item.taken();
        return static_cast<fate>(result);
    }

    detail::callback_handle handle_;
    const detail::call_converter<R, std::remove_cvref_t<Params>...> *converter_ = nullptr;
};

AIOBRIDGE_NAMESPACE_END
