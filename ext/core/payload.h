// ext/core/payload.h: moving and destroying what extensions carry
#pragma once

#include <aiobridge/c_api.h>

#include <cstring>

namespace aiobridge::core {

/// Constructs at `to`, ends `from`.
inline void move_payload(const aiobridge_type &type, void *to, void *from) noexcept {
    if (type.flags & AIOBRIDGE_TYPE_TRIVIAL)
        std::memcpy(to, from, type.size);
    else
        type.move(to, from);
}
inline void destroy_payload(const aiobridge_type &type, void *payload) noexcept {
    if (!(type.flags & AIOBRIDGE_TYPE_TRIVIAL))
        type.destroy(payload);
}

} // namespace aiobridge::core
