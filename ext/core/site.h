// ext/core/site.h: the place in Python code where something was made
#pragma once

#include <aiobridge/c_api.h>

namespace aiobridge::core {

/// GIL. The innermost Python frame that is not aiobridge's own. Its strings live for ever: there are as many as the
/// program has files and functions that make promises and streams.
aiobridge_site calling_site() noexcept;

} // namespace aiobridge::core
