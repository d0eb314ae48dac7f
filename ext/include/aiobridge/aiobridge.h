// aiobridge/aiobridge.h: everything but the binding tool, in reading order
#pragma once

#if !defined(__cplusplus) || (__cplusplus < 202002L && (!defined(_MSVC_LANG) || _MSVC_LANG < 202002L))
#error "aiobridge needs C++20: compile with -std=c++20 (MSVC: /std:c++20)"
#endif

// clang-format off
#include <aiobridge/version.h>   // the version
#include <aiobridge/c_api.h>     // the table of functions that all of this stands on
#include <aiobridge/promise.h>   // one result, later
#include <aiobridge/stream.h>    // many events, later
#include <aiobridge/executor.h>  // a blocking function made awaitable
#include <aiobridge/callback.h>  // a Python function for native threads to call
#include <aiobridge/gil.h>       // the GIL, where it must really be held
#include <aiobridge/convert.h>   // the seam between C++ values and Python objects
// clang-format on
