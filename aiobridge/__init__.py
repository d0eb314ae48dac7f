"""Results and events from native threads, awaited on asyncio and uvloop."""

from aiobridge._exceptions import (
    BridgeError,
    BrokenPromiseError,
    BrokenStreamError,
    CallbackError,
    ClosedError,
    EndOfStream,
    ScopeTimeout,
    StreamOverflow,
)
from aiobridge._figures import Stats, StreamStats

try:
    from aiobridge import _core
except ImportError as _error:
    if _error.name:  # else the module was found, and refuses for a reason that it gives
        _error.add_note(
            "Was aiobridge's extension module built? `pip install .` in a checkout builds it; and in a checkout, "
            "`python -P` keeps the source folder from hiding the installed package."
        )
    raise
if _core._exceptions.BridgeError is not BridgeError:
    raise ImportError(
        "aiobridge was imported before in this process, and taken out of sys.modules since: its extension module is "
        "loaded once, and would raise the exceptions of the first import; leave it there, or start a new process"
    )
from aiobridge._awaitable import awaitable
from aiobridge._core import Future, Promise, Stream, Writer, make_promise, make_stream
from aiobridge._paths import get_cmake_dir, get_include, get_pkgconfig_dir
from aiobridge._scope import Scope, scope
from aiobridge._settings import configure, stats
from aiobridge._subscribe import subscribe
from aiobridge._words import CloseReason, Fate

__all__ = [
    "BridgeError",
    "BrokenPromiseError",
    "BrokenStreamError",
    "CallbackError",
    "CloseReason",
    "ClosedError",
    "EndOfStream",
    "Fate",
    "Future",
    "Promise",
    "Scope",
    "ScopeTimeout",
    "Stats",
    "Stream",
    "StreamOverflow",
    "StreamStats",
    "Writer",
    "awaitable",
    "configure",
    "get_cmake_dir",
    "get_include",
    "get_pkgconfig_dir",
    "make_promise",
    "make_stream",
    "scope",
    "stats",
    "subscribe",
]
__version__: str = _core.__version__

# Reprs and documentation tools show where users find them.
for _public in (make_promise, make_stream):
    _public.__module__ = "aiobridge"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
