// ext/core/future_attributes.h: the private names that asyncio, and those who look into its futures, read
#pragma once

#include "python.h"

namespace aiobridge::core {

extern PyGetSetDef future_attributes[];

} // namespace aiobridge::core
