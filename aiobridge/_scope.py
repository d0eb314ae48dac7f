"""scope(): nothing native that was started in a block outlives it."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from aiobridge import _core
from aiobridge._exceptions import ScopeTimeout

__all__ = ["Scope", "scope"]


class Scope:
    """What `scope` returns: an async context manager, entered once."""

    def __init__(self, timeout: float | None, name: str | None) -> None:
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"scope: timeout is {timeout!r}; it is a number of seconds, or None to wait for ever")
        self._timeout = timeout
        self._core = _core.Scope(name or f"at {id(self):#x}")
        self._outer: _core.Scope | None = None
        self._entered = False
        self.name = name

    def __repr__(self) -> str:
        state = "left" if self._core.is_left else "open" if self._entered else "not entered"
        return f"<aiobridge.Scope {self.name or f'at {id(self):#x}'}, {state}>"

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError(f"{self!r} was entered before; make a new one with aiobridge.scope()")
        self._entered = True
        self._outer = _core.current_scope.get(None)
        _core.current_scope.set(self._core)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        # Not with a token: a fixture's teardown may run in another context than its setup.
        if _core.current_scope.get(None) is self._core:
            _core.current_scope.set(self._outer)
        self._core.leave()
        cancelled = await self._wait()
        left = self._core.left_behind()
        if left:
            seconds = f"{self._timeout:g} s"
            error = ScopeTimeout(f"{self!r}: {len(left)} not let go within {seconds}: {'; '.join(left)}", left)
            if cancelled is None and exc is None:
                raise error
            # Something else is on its way already, and goes on; whoever catches it may look at its notes, but nobody
            # looks at a cancellation's.
            if cancelled is None and isinstance(exc, Exception):
                exc.add_note(str(error))
            else:
                asyncio.get_running_loop().call_exception_handler({"message": str(error), "exception": error})
        if cancelled is not None:
            raise cancelled

    async def _wait(self) -> asyncio.CancelledError | None:
        """Wait until nothing is left, or the time is over. A cancellation comes after that, and is returned."""
        loop = asyncio.get_running_loop()
        deadline = None if self._timeout is None else loop.time() + self._timeout
        cancelled = None
        done = self._core.wait()
        while not done.done():
            remaining = None if deadline is None else deadline - loop.time()
            if remaining is not None and remaining <= 0:
                break
            try:
                await asyncio.wait([done], timeout=remaining)  # type: ignore[type-var]
            except asyncio.CancelledError as error:
                cancelled = error
        return cancelled


def scope(*, timeout: float | None = 5.0, name: str | None = None) -> Scope:
    """Return an async context manager that nothing native made inside outlives.

    ::

        async with aiobridge.scope(timeout=5):
            asyncio.create_task(watch(feed))
            report = await ext.resolve("example.org")

    It covers what is made in the block and in the tasks started there, as contexts are inherited: Futures, Streams and
    callbacks. Leaving it, in whatever way, first cancels the operations that are pending and closes the streams and
    callbacks (the native side sees ``scope_exit``; tasks that run a callback's calls are cancelled). Then it waits
    until the native side has let go: every promise is fulfilled or dropped, every ``on_cancel`` and ``on_close`` hook
    has returned, a stream without a hook has lost its last writer, and no task runs a call.

    What has not let go after `timeout` seconds (None: waits for ever) is named in a `ScopeTimeout`; in a note, if the
    block raises an exception itself, and to the loop's exception handler, if it is cancelled. A cancellation waits for
    that too, as it does in a TaskGroup.

    Scopes nest: an object is in the innermost one. After the end of the block, a task that was started inside gets
    ClosedError for anything native it tries to start. `name` is for messages.
    """
    return Scope(timeout, name)


# Reprs and tracebacks show where users find them.
for _public in (Scope, scope):
    _public.__module__ = "aiobridge"
