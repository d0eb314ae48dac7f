// ext/core/notice.h: a Future of None that the core itself completes, for what Python awaits of it
#pragma once

#include "operation.h"
#include "python.h"

namespace aiobridge::core {

/// GIL. An operation that belongs to no scope; its promise's end is the caller's, to be given to give_notice() or to
/// release_promise(). Null with a Python error.
Operation *make_notice(const aiobridge_site &, Ref &future) noexcept;

/// Any thread. Completes it; the promise's end stays the caller's.
void give_notice(Operation &) noexcept;

} // namespace aiobridge::core
