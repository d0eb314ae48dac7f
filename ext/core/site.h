// ext/core/site.h: the place in code where something was made
#pragma once

#include "python.h"

#include <aiobridge/c_api.h>

namespace aiobridge::core {

/// GIL. The innermost Python frame that is not aiobridge's own. Its strings live for ever: there are as many as the
/// program has files and functions that make promises and streams.
aiobridge_site calling_site() noexcept;

/// GIL. "module.cpp:12", for reprs: new text, or null with an error.
Ref short_text(const aiobridge_site &) noexcept;

} // namespace aiobridge::core
