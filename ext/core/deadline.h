// ext/core/deadline.h: the end of a wait
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace aiobridge::core {

/// UINT64_MAX nanoseconds would overflow the clock; nobody sees the end of a hundred years.
inline std::chrono::steady_clock::time_point deadline_after(std::uint64_t nanoseconds) noexcept {
    constexpr std::chrono::nanoseconds for_ever = std::chrono::hours{24 * 365 * 100};
    return std::chrono::steady_clock::now() +
           std::chrono::nanoseconds(std::min(nanoseconds, static_cast<std::uint64_t>(for_ever.count())));
}

} // namespace aiobridge::core
