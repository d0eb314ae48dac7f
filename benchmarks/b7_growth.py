"""B7: does anything cost more when there is more of it?"""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import bench_native as native
import loops
from contenders import Size, Timed
from measure import Case

IN_FLIGHT = 100
BUSY = 100  # streams, of those that are open
EVENTS = 20  # to each of them at a time


def pending(idle: int) -> Timed:
    """Operations, some in flight at a time, while so many others wait."""

    async def main(count: int) -> float:
        operations = native.Pending()
        waiting = [operations.make_one() for _ in range(idle)]
        times = max(count // IN_FLIGHT, 1)

        async def one_after_another() -> None:
            for number in range(times):
                await native.ours(number)

        started = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        took = (time.perf_counter() - started) / (times * IN_FLIGHT)
        operations.complete()
        if waiting:
            await waiting[-1]
        return took

    return Timed(loops.on("asyncio", main), at_least=IN_FLIGHT)


def streams(idle: int) -> Timed:
    """Events through some streams, a few to each at a time, while so many others are open."""

    async def main(count: int) -> float:
        left = 0
        all_taken = asyncio.Event()

        async def consume(stream) -> None:
            nonlocal left
            async for _ in stream:
                left -= 1
                if not left:
                    all_taken.set()

        others, busy = native.Streams(idle), native.Streams(BUSY)
        consumers = [asyncio.create_task(consume(stream)) for stream in others.streams() + busy.streams()]
        await asyncio.sleep(0)
        times = max(count // (BUSY * EVENTS), 1)
        started = time.perf_counter()
        for _ in range(times):
            left = BUSY * EVENTS
            all_taken.clear()
            busy.push(EVENTS)
            await all_taken.wait()
        took = (time.perf_counter() - started) / (times * BUSY * EVENTS)
        others.close()
        busy.close()
        await asyncio.wait(consumers)
        return took

    return Timed(loops.on("asyncio", main), at_least=BUSY * EVENTS)


def side_by_side(many: int) -> Timed:
    """Operations on loops in threads of their own; seconds of the whole for each operation."""

    def run(count: int) -> float:
        share = max(count // many // 100, 1)

        async def main() -> None:
            async def one_after_another() -> None:
                for number in range(share):
                    await native.ours(number)

            await asyncio.gather(*(one_after_another() for _ in range(100)))

        with ThreadPoolExecutor(many) as threads:
            started = time.perf_counter()
            running = [threads.submit(loops.on("asyncio", main)) for _ in range(many)]
            for each in running:
                each.result()
            return (time.perf_counter() - started) / (share * 100 * many)

    return Timed(run, at_least=100 * many)


def cases(size: Size) -> Iterator[Case]:
    counts = [0, *size.upto(1_000, 100_000, 1_000_000)]
    contenders = {f"{count:,} others pending": pending(count) for count in counts}
    yield Case("B7", "an operation, while so many others wait", contenders, "0 others pending")
    counts = [0, *size.upto(1_000, 10_000)]
    contenders = {f"{count:,} others open": streams(count) for count in counts}
    yield Case("B7", f"an event through {BUSY} streams, while so many others wait", contenders, "0 others open")
    yield Case(
        "B7",
        "an operation, on so many loops in as many threads",
        {f"loops: {count}": side_by_side(count) for count in (1, 2, 8)},
        "loops: 1",
    )
