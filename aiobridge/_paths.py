"""Where the installed package keeps what other builds need: headers, CMake files, the pkg-config file."""

from __future__ import annotations

__all__ = ["get_cmake_dir", "get_include", "get_pkgconfig_dir"]


def get_include() -> str:
    """The folder to search for ``<aiobridge/aiobridge.h>``."""
    return _folder("include")


def get_cmake_dir() -> str:
    """The folder for CMake's ``aiobridge_DIR``."""
    return _folder("share", "cmake", "aiobridge")


def get_pkgconfig_dir() -> str:
    """The folder for ``PKG_CONFIG_PATH``."""
    return _folder("share", "pkgconfig")


def get_benchmarks_dir() -> str:
    """The folder with the benchmarks, for ``aiobridge bench``. Not public."""
    return _folder("share", "_benchmarks")


def _folder(*names: str) -> str:
    from importlib.resources import files  # half the time of this package's import, and needed by builds alone

    # Not relative to __file__: in an editable install the Python files are in the source tree, and what CMake
    # installs is in site-packages. The package's resources are both.
    package = files("aiobridge")
    folder = package
    for name in names:
        folder = folder / name
    if not folder.is_dir():
        raise FileNotFoundError(
            f"aiobridge: no folder {'/'.join(names)} in the installed package ({package}); "
            "install it with pip, which builds and installs the native part too"
        )
    return str(folder)


# Reprs and tracebacks show where users find them.
for _public in (get_cmake_dir, get_include, get_pkgconfig_dir):
    _public.__module__ = "aiobridge"
