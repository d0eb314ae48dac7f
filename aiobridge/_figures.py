"""What stats() answers."""

from dataclasses import dataclass

__all__ = ["Stats", "StreamStats"]


@dataclass(frozen=True, slots=True)
class StreamStats:
    """The fates of events: ``accepted == delivered + evicted + merged + undelivered + pending``.

    Exact on the loop's thread while the producers are quiet.
    """

    accepted: int
    """Events that ``push`` took: `accepted`, `evicted_oldest` and `merged`."""
    delivered: int
    """Events that the consumer took, also those whose conversion failed; a batch counts when it is returned."""
    evicted: int
    """Events that made room for younger ones."""
    merged: int
    """Events that became part of one that waited."""
    undelivered: int
    """Events that waited when the consumer left, or the writer aborted."""
    pending: int
    """Events that wait."""
    full: int
    """Events refused because there was no room (policies ``refuse`` and ``error``)."""
    dropped: int
    """Events refused by policy ``drop_newest``."""
    closed: int
    """Events refused because the stream was closed."""
    timed_out: int
    """Events refused because no room came within the timeout of policy ``block``."""
    would_deadlock: int
    """Events refused because waiting for room on this thread would have been for ever."""
    no_memory: int
    """Events refused because memory ran out."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of this process, as they were when `stats` was called. Any thread may ask."""

    loops: int
    """Bridges alive: one for each loop that uses aiobridge, until its last native handle is gone."""
    operations: int
    """Native operations alive: pending, or held by a handle or a Future."""
    streams: int
    """Native streams alive."""
    callbacks: int
    """Python callables that native handles hold."""
    scopes: int
    """Scopes that are open, or that the native side has not let go of."""
    hooks: int
    """Hooks registered or waiting for the hook thread."""
    events: StreamStats
    """The fates of the events of all streams so far."""
    wakes: int
    """How often a post found a loop's inbox idle, and woke the loop."""
    drains: int
    """Drains that found something to deliver."""
    deliveries: int
    """Results, calls and stream wakes that drains delivered."""
    fd_fallbacks: int
    """Loops that were to be woken by descriptor and have no readers."""
    misuses: int
    """Promises that were fulfilled a second time."""
    pool_threads: int
    """Threads that the pool has started."""


# Reprs and tracebacks show where users find them.
for _public in (Stats, StreamStats):
    _public.__module__ = "aiobridge"
