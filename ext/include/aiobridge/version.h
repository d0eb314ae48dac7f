// aiobridge/version.h: the version, written here and nowhere else
#pragma once

#define AIOBRIDGE_VERSION_MAJOR 0
#define AIOBRIDGE_VERSION_MINOR 1
#define AIOBRIDGE_VERSION_PATCH 0
