"""Waiting for what other threads do."""

import asyncio
import time
from collections.abc import AsyncIterable, Callable
from typing import Any

import native

import aiobridge

HOOK_THREAD = "aiobridge-hooks"  # its name


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait without a loop until the condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        aiobridge.stats()  # does what the notifier and the hook thread have put off
        time.sleep(0.001)


class Turns:
    """Counts the turns of the running loop from now on."""

    def __init__(self) -> None:
        self.count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.count += 1
        self._loop.call_soon(self._turn)


async def collect(stream: AsyncIterable[Any]) -> list[Any]:
    return [event async for event in stream]


async def posts_have_run() -> None:
    """Turn the loop until what was posted so far has run."""
    # Bound to the loop before it is set: what is complete before it is awaited does not go through the loop.
    promise, last = native.make_Promise()
    promise.set(0)
    assert await last == 0


async def hooks_have_run() -> None:
    """Wait for all hooks that are on their way: the hook thread runs one after another."""
    _writer, stream = aiobridge.make_stream()
    stream.on_close(lambda reason: None)
    await stream.aclose()
