// ext/core/settings.h: configure() and stats()
#pragma once

#include <pybind11/pybind11.h>

namespace aiobridge::core {

void register_settings(pybind11::module_ &module);

} // namespace aiobridge::core
