"""`weigh.py WHAT COUNT FOLDER`: prints bytes. A process of its own for b6_memory.py, with bench_native in FOLDER."""

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[3])

import bench_native as native


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def operations(count: int) -> float:
    pending = native.Pending()
    kept = [None] * count
    before = resident()
    for i in range(count):
        kept[i] = pending.make_one()
    return (resident() - before) / count


async def asyncio_futures(count: int) -> float:
    loop = asyncio.get_running_loop()
    kept = [None] * count
    before = resident()
    for i in range(count):
        kept[i] = loop.create_future()
    return (resident() - before) / count


async def events(count: int) -> float:
    before = resident()
    stream = native.full_of_ticks(count)
    weight = (resident() - before) / count
    assert stream.qsize() == count
    return weight


async def asyncio_queue(count: int) -> float:
    queue: asyncio.Queue[tuple[int, float, int]] = asyncio.Queue()
    before = resident()
    for i in range(count):
        queue.put_nowait((i, i / 2, 1))
    return (resident() - before) / count


async def through(count: int) -> float:
    async def pass_through(count: int) -> None:
        async for _ in native.ticks(count, 1, 1024, unbounded=False):
            pass

    await pass_through(max(count // 10, 1))
    before = resident()
    await pass_through(count)
    return resident() - before


async def through_asyncio_queue(count: int) -> float:
    queue: asyncio.Queue[tuple[int, float, int]] = asyncio.Queue(1024)

    async def produce(count: int) -> None:
        for i in range(count):
            await queue.put((i, i / 2, 1))

    async def pass_through(count: int) -> None:
        producing = asyncio.create_task(produce(count))
        for _ in range(count):
            await queue.get()
        await producing

    await pass_through(max(count // 10, 1))
    before = resident()
    await pass_through(count)
    return resident() - before


print(asyncio.run(globals()[sys.argv[1]](int(sys.argv[2]))))
