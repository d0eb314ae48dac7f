// aiobridge/detail/signature.h: the parameters and the result of a callable
#pragma once

#include <aiobridge/detail/config.h>

#include <memory>
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

} // namespace detail
AIOBRIDGE_NAMESPACE_END
