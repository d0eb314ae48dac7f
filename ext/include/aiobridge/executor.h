// aiobridge/executor.h: a blocking C++ function made awaitable
#pragma once

#include <aiobridge/detail/signature.h>
#include <aiobridge/promise.h>

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN
namespace detail {

// One call on its way through the pool: function, arguments and promise in one allocation.
template <class F, class R, bool TakesToken, class... Args> struct call_job : aiobridge_job {
    call_job(const F &function_, promise<R> promise_, aiobridge_operation *operation_, Args &&...args)
        : aiobridge_job{sizeof(aiobridge_job), 0, nullptr, operation_, &call_job::run_job, &call_job::drop_job},
          call(std::in_place, function_, std::move(args)...), result(std::move(promise_)) {}

    struct bound {
        bound(const F &function_, Args &&...args) : function(function_), arguments(std::move(args)...) {}
        F function;
        std::tuple<Args...> arguments;
    };

    R invoke() {
        return std::apply(
            [this](auto &...arguments) -> R {
                if constexpr (TakesToken)
                    return std::invoke(call->function, result.token(), std::move(arguments)...);
                else
                    return std::invoke(call->function, std::move(arguments)...);
            },
            call->arguments);
    }

    // Not noexcept: if `function` takes the GIL while the interpreter exits, Python may end the thread by unwinding it.
    static void run_job(aiobridge_job *job) {
        const std::unique_ptr<call_job> self(static_cast<call_job *>(job));
        std::exception_ptr error;
        std::optional<payload_t<R>> value;
        try {
            if constexpr (std::is_void_v<R>) {
                self->invoke();
                value.emplace();
            } else {
                value.emplace(self->invoke());
            }
        }
        AIOBRIDGE_RETHROW_FORCED_UNWIND
        catch (...) {
            error = std::current_exception();
        }
        // The arguments are gone before the result can be seen: who has it may rely on their destructors.
        self->call.reset();
        if (error)
            self->result.set_exception(std::move(error));
        else if constexpr (std::is_void_v<R>)
            self->result.set_value();
        else
            self->result.set_value(std::move(*value));
    }
    static void drop_job(aiobridge_job *job) { delete static_cast<call_job *>(job); }

    std::optional<bound> call;
    promise<R> result;
};

template <class F, class R, bool TakesToken, class... Params> class async_function {
    static_assert((check_parameter<Params>() && ... && check_result<R>()));

public:
    async_function(F function, std::source_location site) : function_(std::move(function)), site_(site) {}

    future<R> operator()(std::remove_cvref_t<Params>... args) const {
        using job = call_job<F, R, TakesToken, std::remove_cvref_t<Params>...>;
        auto [promise, future] = make_promise<R>(site_);
        auto call = std::make_unique<job>(function_, std::move(promise), future.handle().get(), std::move(args)...);
        if (api().pool_submit(call.get()) != 0)
            throw std::system_error(
                std::make_error_code(std::errc::resource_unavailable_try_again),
                "aiobridge::async: the call was not started, because no pool thread could be started "
                "or the interpreter exits");
        call.release();
        return future;
    }

private:
    F function_;
    std::source_location site_;
};

template <class F, class R, class... Params>
auto make_async(F function, std::source_location site, type_list<stop_token, Params...>, R (*)()) {
    return async_function<F, R, true, Params...>(std::move(function), site);
}
template <class F, class R, class... Params>
auto make_async(F function, std::source_location site, type_list<const stop_token &, Params...>, R (*)()) {
    return async_function<F, R, true, Params...>(std::move(function), site);
}
template <class F, class R, class... Params>
auto make_async(F function, std::source_location site, type_list<Params...>, R (*)()) {
    return async_function<F, R, false, Params...>(std::move(function), site);
}

} // namespace detail

/// A function that runs `function` on aiobridge's native pool, without the GIL, and returns a future of its result.
/// Bind what it returns. Takes a function, a lambda or another object with one operator(); arguments are taken by
/// value (a `const T &` parameter gets a reference to the call's own copy). A first parameter of type
/// aiobridge::stop_token is supplied, not bound. Cancelling the future drops a call that has not started and sets the
/// stop token of a running one. Needs the GIL; throws import_error if the runtime is missing or too old.
template <class F> auto async(F function, std::source_location site = std::source_location::current()) {
    init();
    if constexpr (std::is_member_function_pointer_v<F>) {
        // The object must live until the call has run, so it comes as a shared_ptr: the class has to be bound with that
        // holder.
        return [&]<class... Params>(detail::type_list<Params...>) {
            using Object = typename detail::signature_of<F>::object;
            using R = typename detail::signature_of<F>::result;
            constexpr bool takes_token = (std::is_same_v<std::remove_cvref_t<Params>, stop_token> || ...);
            if constexpr (takes_token) {
                static_assert(!takes_token,
                              "aiobridge::async: a member function cannot take a stop_token; wrap it in a lambda "
                              "[](aiobridge::stop_token, std::shared_ptr<T>, …)");
            }
            auto bound = [function](const std::shared_ptr<Object> &object, Params... args) -> R {
                return ((*object).*function)(std::forward<Params>(args)...);
            };
            return async(std::move(bound), site);
        }(typename detail::signature_of<F>::parameters{});
    } else {
        using Signature = detail::signature_of<F>;
        return detail::make_async(std::move(function), site, typename Signature::parameters{},
                                  static_cast<typename Signature::result (*)()>(nullptr));
    }
}

AIOBRIDGE_NAMESPACE_END
