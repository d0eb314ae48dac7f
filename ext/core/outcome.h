// ext/core/outcome.h: what an operation was completed with, as Python objects
#pragma once

#include "future.h"

namespace aiobridge::core {

/// GIL. As a result or an exception; both null: the operation was cancelled. The payload ends with it. Runs converters,
/// which are foreign code.
void convert(Future *, Ref &result, Ref &exception) noexcept;

/// GIL. What a Future can deliver: asyncio cannot throw StopIteration into a coroutine.
Ref wrap_stop_iteration(Ref exception) noexcept;

} // namespace aiobridge::core
