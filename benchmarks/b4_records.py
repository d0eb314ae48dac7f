"""B4: how many records of 24 bytes a second, many at a time?"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sized

import bench_native as native
import loops
import peers
from contenders import Contender, Size, Timed
from measure import Case

CAPACITY = 65_536  # events that may wait; a producer that finds no room does
AT_ONCE = 8_192
PACKET = 256


def contender(loop: str, consume) -> Timed:
    async def main(count: int) -> float:
        started = time.perf_counter()
        await consume(count)
        return (time.perf_counter() - started) / count

    return Timed(loops.on(loop, main), at_least=AT_ONCE)


def ticks(count: int, producers: int):
    return native.ticks(count, producers, CAPACITY, unbounded=False)


def recorded_ticks(count: int, producers: int):
    return native.recorded_ticks(count, producers, CAPACITY, unbounded=False)


def packets(count: int, producers: int):
    return native.packets_of_ticks(count, producers, CAPACITY, PACKET)


def consume(how: str, make, producers: int):
    async def all_of_them(count: int) -> None:
        stream = make(count, producers)
        left = count // producers * producers
        async for records in getattr(stream, how)(AT_ONCE):
            left -= len(records)
        assert not left

    return all_of_them


def buffered(loop: str, how: str, make) -> Timed:
    """Nothing but the consumer's part: it is all there."""

    async def main(count: int) -> float:
        stream = make(count)
        started = time.perf_counter()
        async for _ in getattr(stream, how)(AT_ONCE):
            pass
        return (time.perf_counter() - started) / count

    return Timed(loops.on(loop, main), at_least=AT_ONCE, at_most=4_000_000)


def arrays_by_hand(producers: int):
    """What is written by hand where speed matters: the thread fills an array, and takes the GIL once for each."""

    async def consume(count: int) -> None:
        queue: asyncio.Queue[Sized] = asyncio.Queue()
        native.push_arrays_by_hand(asyncio.get_running_loop(), queue, count, producers, AT_ONCE)
        left = count // producers * producers
        while left:
            left -= len(await queue.get())

    return consume


def lists_through(loop: str, producers: int):
    def make(module) -> Timed:
        async def lists(count: int) -> None:
            queue = module.Queue(maxsize=CAPACITY // AT_ONCE)
            share = count // producers

            def produce() -> None:
                for start in range(0, share, AT_ONCE):
                    records = [(number, number / 2, 1) for number in range(start, min(start + AT_ONCE, share))]
                    queue.sync_q.put(records)

            threads = [threading.Thread(target=produce) for _ in range(producers)]
            for thread in threads:
                thread.start()
            left = share * producers
            while left:
                left -= len(await queue.async_q.get())
            for thread in threads:
                thread.join()
            queue.close()
            await queue.wait_closed()

        return contender(loop, lists)

    return make


def cases(size: Size) -> Iterator[Case]:
    for loop in loops.LOOPS:
        for producers in (1, 2):
            contenders: dict[str, Contender] = {
                "aiobridge, arrays": contender(loop, consume("arrays", ticks, producers)),
                f"aiobridge, arrays, in packets of {PACKET}": contender(loop, consume("arrays", packets, producers)),
                "aiobridge, batches of a bound struct": contender(loop, consume("batches", ticks, producers)),
                "aiobridge, batches of a record": contender(loop, consume("batches", recorded_ticks, producers)),
                f"by hand: arrays of {AT_ONCE:,}, put_nowait": contender(loop, arrays_by_hand(producers)),
                "lists through janus, from Python threads": peers.with_peer("janus", lists_through(loop, producers)),
                "floor: memcpy, as many at once": Timed(
                    lambda count: native.copy(24 * count, 24 * AT_ONCE) / count, AT_ONCE
                ),
            }
            if producers == 1:
                contenders |= {
                    "aiobridge, arrays of what waits already": buffered(loop, "arrays", native.full_of_ticks),
                    "aiobridge, batches of a bound struct that wait already": buffered(
                        loop, "batches", native.full_of_ticks
                    ),
                    "aiobridge, batches of a record that wait already": buffered(
                        loop, "batches", native.full_of_recorded_ticks
                    ),
                }
            title = f"a record, {producers} producer{'s' * (producers > 1)}, {loop}"
            yield Case("B4", title, contenders, "floor: memcpy, as many at once")
