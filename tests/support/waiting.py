"""Waiting for what other threads do, in tests on a loop."""

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any


async def until(condition: Callable[[], object]) -> None:
    """Turn the loop until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def collect(stream: AsyncIterable[Any]) -> list[Any]:
    return [event async for event in stream]
