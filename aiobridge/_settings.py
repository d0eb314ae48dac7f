"""configure() and stats(): how loops are woken, how large the pool is, and what has happened so far."""

from typing import Literal

from aiobridge import _core
from aiobridge._figures import Stats

__all__ = ["configure", "stats"]


def configure(*, wakeup: Literal["call_soon", "fd"] | None = None, pool_threads: int | None = None) -> None:
    """Set how loops are woken, and how many threads the pool has.

    `wakeup`: ``"call_soon"`` has a thread of aiobridge call ``loop.call_soon_threadsafe``; ``"fd"`` writes to a
    descriptor that the loop watches, and no thread takes the GIL. Called in a coroutine it is for the running loop,
    called elsewhere for all loops that use aiobridge for the first time later. The default is the environment variable
    ``AIOBRIDGE_WAKEUP``, else ``"call_soon"``. A loop without ``add_reader`` has ``"call_soon"`` in any case, and
    ``stats().fd_fallbacks`` counts it.

    `pool_threads`: how many threads run ``aiobridge::async`` calls, from 1 to 4096. The default is the environment
    variable ``AIOBRIDGE_POOL_THREADS``, else the number of cores.

    Raises ValueError for a value that is not one of these, and RuntimeError when it comes too late: after the loop's
    first native result, or after the pool's first call.
    """
    _core.configure(wakeup=wakeup, pool_threads=pool_threads)


def stats() -> Stats:
    """Return the figures of this process."""
    return Stats(**_core.stats())


# Reprs and tracebacks show where users find them.
for _public in (configure, stats):
    _public.__module__ = "aiobridge"
