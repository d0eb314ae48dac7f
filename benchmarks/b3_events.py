"""B3: how many events a second through `async for`?

Buffers are unbounded everywhere, so that no producer waits. janus and culsans have producers in Python threads, which
spares them the way from C++ to Python.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import bench_native as native
import loops
import peers
from contenders import Contender, Size, Timed
from measure import Case


def contender(loop: str, consume, wakeup: str | None = None) -> Timed:
    async def main(count: int) -> float:
        started = time.perf_counter()
        await consume(count)
        return (time.perf_counter() - started) / count

    return Timed(loops.on(loop, main, wakeup), at_least=1_000)


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def consume_generator(count: int) -> None:
    async for _ in numbers(count):
        pass


def consume_ours(make: Callable[..., AsyncIterator[object]], producers: int):
    async def consume(count: int) -> None:
        async for _ in make(count, producers):
            pass

    return consume


def consume_by_hand(producers: int, keep_thread_state: bool = False):
    async def consume(count: int) -> None:
        queue: asyncio.Queue[int] = asyncio.Queue()
        native.push_by_hand(asyncio.get_running_loop(), queue, count, producers, keep_thread_state)
        for _ in range(count // producers * producers):
            await queue.get()

    return consume


def with_python_threads(loop: str, producers: int):
    """For janus and culsans, whose queues are alike."""

    def make(module) -> Timed:
        async def consume(count: int) -> None:
            queue = module.Queue()

            def produce() -> None:
                put = queue.sync_q.put
                for number in range(count // producers):
                    put(number)

            threads = [threading.Thread(target=produce) for _ in range(producers)]
            for thread in threads:
                thread.start()
            get = queue.async_q.get
            for _ in range(count // producers * producers):
                await get()
            for thread in threads:
                thread.join()
            queue.close()
            await queue.wait_closed()

        return contender(loop, consume)

    return make


def cases(size: Size) -> Iterator[Case]:
    for loop in loops.LOOPS:
        for producers in size.upto(1, 2, 8):
            contenders: dict[str, Contender] = {
                f"aiobridge, {wakeup}": contender(loop, consume_ours(native.ints, producers), wakeup)
                for wakeup in loops.WAKERS
            }
            contenders |= {
                "floor: an async generator": contender(loop, consume_generator),
                "by hand: call_soon_threadsafe(put_nowait)": contender(loop, consume_by_hand(producers)),
                "by hand, and the threads keep their state": contender(loop, consume_by_hand(producers, True)),
                "janus, from Python threads": peers.with_peer("janus", with_python_threads(loop, producers)),
                "culsans, from Python threads": peers.with_peer("culsans", with_python_threads(loop, producers)),
            }
            if producers == 1:
                contenders |= {
                    "aiobridge, objects of a bound struct": contender(loop, consume_ours(native.ticks, producers)),
                    "aiobridge, objects of a record": contender(loop, consume_ours(native.recorded_ticks, producers)),
                }
            yield Case(
                "B3",
                f"an event, {producers} producer{'s' * (producers > 1)}, {loop}",
                contenders,
                f"aiobridge, {loops.WAKERS[0]}",
            )
