"""configure() and stats(): how loops are woken, how large the pool is, and what has happened so far."""

from dataclasses import dataclass
from typing import Literal

from aiobridge import _core

__all__ = ["Stats", "configure", "stats"]


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


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of this process, as they were when `stats` was called. Any thread may ask."""

    loops: int
    """Bridges alive: one for each loop that uses aiobridge, until its last native handle is gone."""
    operations: int
    """Native operations alive: pending, or held by a handle or a Future."""
    streams: int
    """Native streams alive."""
    hooks: int
    """Hooks registered or waiting for the hook thread."""
    wakes: int
    """How often a post found a loop's inbox idle, and woke the loop."""
    drains: int
    """Drains that found something to deliver."""
    deliveries: int
    """Results and stream wakes that drains delivered."""
    fd_fallbacks: int
    """Loops that were to be woken by descriptor and have no readers."""
    misuses: int
    """Promises that were fulfilled a second time."""
    pool_threads: int
    """Threads that the pool has started."""


def stats() -> Stats:
    """Return the figures of this process."""
    return Stats(**_core.stats())


# Reprs and tracebacks show where users find them.
for _public in (Stats, configure, stats):
    _public.__module__ = "aiobridge"
