// aiobridge/detail/signature.h: the parameters and the result of a callable
#pragma once

#include <aiobridge/detail/config.h>

#include <aiobridge/detail/payload.h>

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>

AIOBRIDGE_NAMESPACE_BEGIN
namespace detail {

template <class... Ts> struct type_list {};

template <class R, class... Args> struct signature {
    using result = R;
    using parameters = type_list<Args...>;
};

// A lambda or another class with one operator().
template <class F> struct signature_of : signature_of<decltype(&F::operator())> {};

template <class R, class... A> struct signature_of<R (*)(A...)> : signature<R, A...> {};
template <class R, class... A> struct signature_of<R (*)(A...) noexcept> : signature<R, A...> {};

#define AIOBRIDGE_MEMBER_SIGNATURE(QUALIFIERS)                                                                         \
    template <class R, class C, class... A> struct signature_of<R (C::*)(A...) QUALIFIERS> : signature<R, A...> {      \
        using object = C;                                                                                              \
    };
AIOBRIDGE_MEMBER_SIGNATURE()
AIOBRIDGE_MEMBER_SIGNATURE(const)
AIOBRIDGE_MEMBER_SIGNATURE(noexcept)
AIOBRIDGE_MEMBER_SIGNATURE(const noexcept)
#undef AIOBRIDGE_MEMBER_SIGNATURE

template <class T> inline constexpr bool is_view = false;
template <class C, class Tr> inline constexpr bool is_view<std::basic_string_view<C, Tr>> = true;
template <class T, std::size_t N> inline constexpr bool is_view<std::span<T, N>> = true;
template <class T> inline constexpr bool is_std_function = false;
template <class S> inline constexpr bool is_std_function<std::function<S>> = true;

template <class P> constexpr bool check_parameter() {
    using T = std::remove_cvref_t<P>;
    static_assert(!std::is_lvalue_reference_v<P> || std::is_const_v<std::remove_reference_t<P>>,
                  "aiobridge: a parameter of async() or of a callback is a non-const reference, but the call runs "
                  "later, on another thread, "
                  "with its own copy. Take the argument by value or by const reference");
    static_assert(!std::is_pointer_v<T>, "aiobridge: a parameter of async() or of a callback is a pointer, and nothing "
                                         "keeps alive what it points to until the call "
                                         "runs. Take a value (std::string for const char *) or a std::shared_ptr");
    static_assert(
        !is_view<T>,
        "aiobridge: a parameter of async() or of a callback is a view, and nothing keeps alive what it looks at until "
        "the call runs. Take the value: std::string, std::vector");
    static_assert(!is_std_function<T>, "aiobridge: a parameter of async() or of a callback is a std::function, whose "
                                       "Python wrapper takes the GIL when a pool "
                                       "thread destroys it");
    static_assert(
        !is_python_object<T>,
        "aiobridge: a parameter of async() or of a callback is a Python object, and the call runs without the "
        "GIL. Take the C++ value");
    return true;
}

template <class R> constexpr bool check_result() {
    static_assert(!std::is_reference_v<R> && !std::is_pointer_v<R> && !is_view<std::remove_cv_t<R>>,
                  "aiobridge: the function of async(), or a callback, returns a reference, a pointer or a view, and "
                  "what it refers to may be "
                  "gone when Python looks. Return a value or a std::shared_ptr");
    return true;
}

} // namespace detail
AIOBRIDGE_NAMESPACE_END
