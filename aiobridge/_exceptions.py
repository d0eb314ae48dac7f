"""The exceptions of aiobridge.

::

    RuntimeError
     └─ BridgeError             base of all below
         ├─ BrokenPromiseError  the native side dropped its promise without a result
         ├─ BrokenStreamError   the native side dropped or aborted its stream without an end
         ├─ CallbackError       a function adapted by awaitable or subscribe called its error callback
         ├─ StreamOverflow      events came faster than they were taken, and the policy is `error`
         ├─ ScopeTimeout        what was made in a scope was not let go in time (also a TimeoutError)
         ├─ EndOfStream         get() after the last event (also an EOFError)
         └─ ClosedError         the loop was closed, the interpreter exits, or the process was forked
"""

from collections.abc import Sequence
from typing import Any

__all__ = [
    "BridgeError",
    "BrokenPromiseError",
    "BrokenStreamError",
    "CallbackError",
    "ClosedError",
    "EndOfStream",
    "ScopeTimeout",
    "StreamOverflow",
]


class BridgeError(RuntimeError):
    """Base of the errors that aiobridge itself raises."""


class BrokenPromiseError(BridgeError):
    """The native side dropped its promise without a result. The message says where the promise was made."""


class BrokenStreamError(BridgeError):
    """The last writer went while an exception unwound its thread, or aborted. The message says where it was made."""


class CallbackError(BridgeError):
    """A function adapted by `awaitable` or `subscribe` reported an error that is no exception: a code, a message.

    The message names the function and what it told. An exception among several things told is the ``__cause__``.
    """

    arguments: tuple[Any, ...]
    """What the error callback was called with."""

    def __init__(self, message: str, arguments: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.arguments = arguments


class StreamOverflow(BridgeError):
    """As many events as the stream holds waited, and one more came: its overflow policy is ``error``."""


class EndOfStream(BridgeError, EOFError):
    """`Stream.get` or `Stream.get_nowait` was called after the last event."""


class ScopeTimeout(BridgeError, TimeoutError):
    """What was made in a scope was not let go by the native side within the scope's time.

    `left` says what, and where it was made: one text for each object.
    """

    def __init__(self, message: str, left: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.left: tuple[str, ...] = tuple(left)


class ClosedError(BridgeError):
    """What was asked for belongs to a loop that was closed, an interpreter that exits, or another process."""


for _name in __all__:
    globals()[_name].__module__ = "aiobridge"
