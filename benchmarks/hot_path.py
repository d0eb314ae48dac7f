"""`hot_path.py FOLDER PATH COUNT`: goes along one hot path so many times, on one thread. For instructions.py.

What comes after a path's `yield` is counted.
"""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator

sys.path.insert(0, sys.argv[1])

import bench_native as native

import aiobridge

Path = AsyncIterator[None]


async def make(count: int) -> Path:
    """A promise and its Future."""
    setter = native.Setter()
    yield
    _kept = setter.make(count)


async def push(count: int) -> Path:
    pusher = native.Pusher(capacity=count)
    yield
    pusher.push_here(count)


async def set_value(count: int) -> Path:
    """Of a Future that nobody awaits."""
    setter = native.Setter()
    _kept = setter.make(count)
    yield
    setter.set_here()


async def operation(count: int) -> Path:
    """Made, awaited by a task that has awaited others before, completed, delivered, freed; 100 at a time."""
    pending = native.Pending()

    async def one_after_another() -> None:
        for _ in range(count // 100):
            await pending.make_one()

    waiting = asyncio.gather(*(one_after_another() for _ in range(100)))
    yield
    while not waiting.done():
        await asyncio.sleep(0)
        pending.complete_here()


async def event(count: int) -> Path:
    stream = native.full_of_ints(count)
    yield
    async for _ in stream:
        pass


async def batched_event(count: int) -> Path:
    stream = native.full_of_ints(count)
    yield
    async for _ in stream.batches():
        pass


async def record(count: int) -> Path:
    stream = native.full_of_ticks(count)
    await anext(native.full_of_ticks(1).arrays())  # imports numpy
    yield
    async for _ in stream.arrays():
        pass


async def go_on(path: Path) -> None:
    async for _ in path:
        pass


if __name__ == "__main__":
    gc.disable()
    aiobridge.configure(wakeup="fd")
    loop = asyncio.new_event_loop()
    path = globals()[sys.argv[2]](int(sys.argv[3]))
    loop.run_until_complete(anext(path))
    native.counted(lambda: loop.run_until_complete(go_on(path)))
    # What is left over would end on the hook thread, whose waiting does not repeat exactly.
    os._exit(0)
