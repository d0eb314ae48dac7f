// aiobridge/detail/config.h: the versioned namespace
#pragma once

// Hidden visibility keeps inline variables apart: the dynamic linker otherwise unifies them across modules,
// and a module would use the table that another one, built from other headers, has loaded. The inline
// namespace does the same for types.
#if defined(_MSC_VER)
#define AIOBRIDGE_HIDDEN
#else
#define AIOBRIDGE_HIDDEN __attribute__((visibility("hidden")))
#endif

#define AIOBRIDGE_NAMESPACE_BEGIN                                                                                      \
    namespace aiobridge {                                                                                              \
    inline namespace abi_v1 AIOBRIDGE_HIDDEN {
#define AIOBRIDGE_NAMESPACE_END                                                                                        \
    }                                                                                                                  \
    }

// glibc ends a thread (pthread_exit, which Python up to 3.13 uses on threads that ask for the GIL during
// interpreter exit) by an exception that must not be swallowed: a `catch (...)` that does not rethrow it aborts the
// process. This clause goes before it.
#if defined(__GLIBCXX__) || __has_include(<cxxabi.h>)
#include <cxxabi.h>
#endif
#if defined(__GLIBCXX__)
#define AIOBRIDGE_RETHROW_FORCED_UNWIND                                                                                \
    catch (abi::__forced_unwind &) {                                                                                   \
        throw;                                                                                                         \
    }
#else
#define AIOBRIDGE_RETHROW_FORCED_UNWIND
#endif
