// aiobridge/detail/payload.h: how the runtime moves and destroys a C++ value
#pragma once

#include <aiobridge/c_api.h>
#include <aiobridge/detail/config.h>

#include <cstdint>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN

/// True for types that own or point to a Python object. Binding headers add theirs. Such a value may not be a
/// payload: it would be moved and destroyed on threads that do not hold the GIL.
template <class T> inline constexpr bool is_python_object = std::is_same_v<std::remove_cv_t<T>, aiobridge_pyobject *>;

namespace detail {

/// The payload of promise<void>.
struct unit {};

template <class T> using payload_t = std::conditional_t<std::is_void_v<T>, unit, T>;

template <class T> constexpr bool check_payload() {
    static_assert(
        !is_python_object<T>,
        "aiobridge: a Python object cannot be a payload, because producers move and destroy it without the GIL. "
        "Carry the C++ value; it is converted on the consumer's side");
    static_assert(!std::is_reference_v<T> && !std::is_const_v<T>,
                  "aiobridge: a payload is a value: use the type without & and const");
    static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_destructible_v<T>,
                  "aiobridge: a payload needs a noexcept move constructor and destructor, because a post must not fail "
                  "half way. Wrap the type in std::unique_ptr or std::shared_ptr");
    return true;
}

template <class T> struct payload {
    static_assert(check_payload<T>());
    static void move(void *to, void *from) noexcept {
        auto *source = static_cast<T *>(from);
        ::new (to) T(std::move(*source));
        source->~T();
    }
    static void destroy(void *object) noexcept { static_cast<T *>(object)->~T(); }

    static constexpr std::uint32_t flags =
        (std::is_trivially_copyable_v<T> ? std::uint32_t{AIOBRIDGE_TYPE_TRIVIAL} : 0u) |
        (std::is_same_v<T, std::exception_ptr> ? std::uint32_t{AIOBRIDGE_TYPE_ERROR} : 0u);
    static constexpr aiobridge_type type{sizeof(aiobridge_type), flags, sizeof(T), alignof(T), &move, &destroy};
};

using error_payload = payload<std::exception_ptr>;

/// In detail/refused.h, because it calls the runtime.
inline void end_refused(std::exception_ptr *error) noexcept;

/// A value on its way into the runtime: destroyed here, unless the runtime took it.
template <class T> class outgoing {
public:
    explicit outgoing(T &&value) noexcept { ::new (static_cast<void *>(room_)) T(std::move(value)); }
    outgoing(const outgoing &) = delete;
    outgoing &operator=(const outgoing &) = delete;
    ~outgoing() {
        if (taken_)
            return;
        if constexpr (std::is_same_v<T, std::exception_ptr>)
            end_refused(static_cast<T *>(get()));
        else
            payload<T>::destroy(room_);
    }
    void *get() noexcept { return room_; }
    void taken() noexcept { taken_ = true; }

private:
    alignas(T) unsigned char room_[sizeof(T)];
    bool taken_ = false;
};

} // namespace detail
AIOBRIDGE_NAMESPACE_END
