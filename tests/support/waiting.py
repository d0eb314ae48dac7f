"""Waiting for what other threads do, in tests on a loop."""

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any

import aiobridge


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def collect(stream: AsyncIterable[Any]) -> list[Any]:
    return [event async for event in stream]


async def hooks_have_run() -> None:
    """Wait for all hooks that are on their way: the hook thread runs one after another."""
    _writer, stream = aiobridge.make_stream()
    stream.on_close(lambda reason: None)
    await stream.aclose()
