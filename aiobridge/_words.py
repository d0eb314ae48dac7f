"""The words that producers hear: what became of an item, and why nothing more is taken."""

from enum import StrEnum
from typing import Literal, TypeAlias

__all__ = ["CloseReason", "Fate"]


Overflow: TypeAlias = Literal["refuse", "drop_oldest", "drop_newest", "block", "conflate", "error", "unbounded"]


class Fate(StrEnum):
    """What happened to a result or an event. A string: ``Fate.FULL == "full"``."""

    # In the order of the codes in aiobridge/c_api.h; so is CloseReason.
    ACCEPTED = "accepted"
    """It will be delivered; an event may still be evicted, merged or left when the stream is closed."""
    EVICTED_OLDEST = "evicted_oldest"
    """Accepted; the oldest event made room (overflow ``drop_oldest``)."""
    MERGED = "merged"
    """Accepted; it took the place of the newest one that waits (overflow ``conflate``)."""
    DROPPED = "dropped"
    """Refused: there is no room (overflow ``drop_newest``)."""
    FULL = "full"
    """Refused: there is no room (overflow ``refuse`` and ``error``)."""
    CLOSED = "closed"
    """Refused: nobody will ever take it. ``close_reason()`` says why."""
    TIMED_OUT = "timed_out"
    """Refused: there was no room within the timeout (overflow ``block``)."""
    WOULD_DEADLOCK = "would_deadlock"
    """Refused: to wait for room on the thread of the consumer's loop would be for ever (overflow ``block``)."""
    NO_MEMORY = "no_memory"
    """Refused: memory ran out."""
    ALREADY_SET = "already_set"
    """Refused, and reported as misuse: the promise was fulfilled before."""

    @property
    def is_accepted(self) -> bool:
        """True for `ACCEPTED`, `EVICTED_OLDEST` and `MERGED`."""
        return self in (Fate.ACCEPTED, Fate.EVICTED_OLDEST, Fate.MERGED)


class CloseReason(StrEnum):
    """Why a promise or a stream takes nothing more. A string: ``CloseReason.CANCELLED == "cancelled"``."""

    OPEN = "open"
    """It does."""
    FINISHED = "finished"
    """A result was set, or the writer closed the stream."""
    FAILED = "failed"
    """An exception was set, or the producer failed, aborted or was dropped."""
    CONSUMER_CLOSED = "consumer_closed"
    """``aclose()``, or ``async with`` was left."""
    ABANDONED = "abandoned"
    """The last reference to the Future or Stream was dropped."""
    CANCELLED = "cancelled"
    """The Future, or the task that awaited it, was cancelled."""
    SCOPE_EXIT = "scope_exit"
    """The scope in which it was made was left."""
    LOOP_CLOSED = "loop_closed"
    """The loop it belonged to was closed."""
    INTERPRETER_EXIT = "interpreter_exit"
    """Python exits."""
    FORKED = "forked"
    """It was inherited by a child process."""


# Reprs and tracebacks show where users find them.
for _public in (Fate, CloseReason):
    _public.__module__ = "aiobridge"
