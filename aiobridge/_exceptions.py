"""The exceptions of aiobridge.

::

    RuntimeError
     └─ BridgeError             base of all below
         ├─ BrokenPromiseError  the native side dropped its promise without a result
         └─ ClosedError         the loop was closed, the interpreter exits, or the process was forked
"""

__all__ = ["BridgeError", "BrokenPromiseError", "ClosedError"]


class BridgeError(RuntimeError):
    """Base of the errors that aiobridge itself raises."""


class BrokenPromiseError(BridgeError):
    """The native side dropped its promise without a result. The message says where the promise was made."""


class ClosedError(BridgeError):
    """What was asked for belongs to a loop that was closed, an interpreter that exits, or another process."""


for _name in __all__:
    globals()[_name].__module__ = "aiobridge"
