"""The loops and the wakers, and what keeps them busy."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiobridge

NewLoop = Callable[[], asyncio.AbstractEventLoop]
LOOPS: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop}
with contextlib.suppress(ImportError):
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop
WAKERS = ("call_soon", "fd")


def on(loop: str, main: Callable[..., Awaitable[Any]], wakeup: Any = None) -> Callable[..., Any]:
    """`main`, as a function that runs it in a new loop."""

    async def configured(*args: Any) -> Any:
        aiobridge.configure(wakeup=wakeup or "call_soon")
        return await main(*args)

    def run(*args: Any) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            return runner.run(configured(*args))

    return run


async def empty_turns(count: int) -> float:
    """Seconds for each turn of a loop that has nothing to do but to call this again."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    left = count

    def turn() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(turn)
        else:
            over.set_result(None)

    started = time.perf_counter()
    loop.call_soon(turn)
    await over
    return (time.perf_counter() - started) / count


@contextlib.contextmanager
def busy_loop(slice_seconds: float = 100e-6) -> Iterator[None]:
    """The running loop computes in slices, without a pause."""
    over = False

    def compute() -> None:
        until = time.perf_counter() + slice_seconds
        while time.perf_counter() < until:
            pass
        if not over:
            loop.call_soon(compute)

    loop = asyncio.get_running_loop()
    loop.call_soon(compute)
    try:
        yield
    finally:
        over = True


@contextlib.contextmanager
def hogged_gil() -> Iterator[None]:
    """Another thread computes, in Python."""
    over = False

    def compute() -> None:
        while not over:
            sum(range(100))

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        over = True
        thread.join()
