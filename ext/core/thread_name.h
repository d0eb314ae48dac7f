// ext/core/thread_name.h: names for our threads, as debuggers and `top -H` show them
#pragma once

#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace aiobridge::core {

/// Names the calling thread "aiobridge-<role>". Linux keeps 15 characters, and refuses longer names: there letters go
/// from the end of "aiobridge", so that the part that tells threads apart stays ("aiobridg-notify").
inline void name_this_thread(const char *role) noexcept {
    char name[64];
#if defined(__APPLE__)
    std::snprintf(name, sizeof name, "aiobridge-%s", role);
    pthread_setname_np(name);
#elif defined(__linux__)
    const int room = 15 - 1 - static_cast<int>(std::min<std::size_t>(std::strlen(role), 14));
    std::snprintf(name, 16, "%.*s-%s", std::min(room, 9), "aiobridge", role);
    pthread_setname_np(pthread_self(), name);
#else
    (void)role, (void)name;
#endif
}

} // namespace aiobridge::core
