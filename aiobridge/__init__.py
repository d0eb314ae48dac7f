"""Results and events from native threads, awaited on asyncio and uvloop."""

from aiobridge._exceptions import (
    BridgeError,
    BrokenPromiseError,
    BrokenStreamError,
    ClosedError,
    EndOfStream,
    StreamOverflow,
)
from aiobridge._figures import Stats, StreamStats

try:
    from aiobridge import _core
except ImportError as error:
    error.add_note(
        "Was aiobridge's extension module built? `pip install .` in a checkout builds it; and in a checkout, "
        "`python -P` keeps the source folder from hiding the installed package."
    )
    raise
from aiobridge._core import Future, Stream
from aiobridge._paths import get_cmake_dir, get_include, get_pkgconfig_dir
from aiobridge._settings import configure, stats

__all__ = [
    "BridgeError",
    "BrokenPromiseError",
    "BrokenStreamError",
    "ClosedError",
    "EndOfStream",
    "Future",
    "Stats",
    "Stream",
    "StreamOverflow",
    "StreamStats",
    "configure",
    "get_cmake_dir",
    "get_include",
    "get_pkgconfig_dir",
    "stats",
]
__version__: str = _core.__version__


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
