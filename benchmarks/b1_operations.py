"""B1: how many operations a second, with so many in flight?

Each of so many tasks awaits one operation after another. The library (native/src/sdk.h) has one thread, which answers
at once, so that what is measured is the way there and back. With one operation in flight the thread is asleep when it
is asked; with more, it stays awake for a while.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import bench_native as native
import loops
import peers
from contenders import Contender, Size, Sum, Timed
from measure import Case

LINGER = 50  # microseconds

Operation = Callable[[int], Awaitable[object]]


async def many(in_flight: int, make: Callable[[], Operation], count: int) -> float:
    operation = make()
    times = max(count // in_flight, 1)
    start = asyncio.Event()

    async def one_after_another() -> None:
        await start.wait()
        for number in range(times):
            await operation(number)

    # To make the tasks is not measured.
    tasks = [asyncio.ensure_future(one_after_another()) for _ in range(in_flight)]
    await asyncio.sleep(0)
    native.linger(LINGER if in_flight > 1 else 0)
    started = time.perf_counter()
    start.set()
    await asyncio.gather(*tasks)
    took = time.perf_counter() - started
    native.linger(0)
    return took / (times * in_flight)


def own() -> Operation:
    """asyncio completes its own futures, and there are no threads."""
    loop = asyncio.get_running_loop()

    def operation(number: int) -> asyncio.Future[int]:
        future = loop.create_future()
        loop.call_soon(future.set_result, number)
        return future

    return operation


def in_executor() -> Operation:
    loop = asyncio.get_running_loop()
    return lambda number: loop.run_in_executor(None, native.blocking, number)


def contender(loop: str, in_flight: int, make: Callable[[], Operation], wakeup: str | None = None) -> Timed:
    async def main(count: int) -> float:
        return await many(in_flight, make, count)

    return Timed(loops.on(loop, main, wakeup), at_least=in_flight * max(16_000 // in_flight, 2))


def obstore(loop: str, in_flight: int) -> Callable[[object], Timed]:
    def make(module) -> Timed:
        from obstore.store import MemoryStore

        store = MemoryStore()
        module.put(store, "object", b"content")
        return contender(loop, in_flight, lambda: lambda number: module.head_async(store, "object"))

    return make


def cases(size: Size) -> Iterator[Case]:
    for loop in loops.LOOPS:
        for in_flight in size.upto(1, 100, 1_000, 10_000):
            contenders: dict[str, Contender] = {
                f"aiobridge, {wakeup}": contender(loop, in_flight, lambda: native.ours, wakeup)
                for wakeup in loops.WAKERS
            }
            contenders |= {
                f"aiobridge's pool, {wakeup}": contender(loop, in_flight, lambda: native.ours_on_the_pool, wakeup)
                for wakeup in loops.WAKERS
            }
            contenders |= {
                "floor: the loop's own futures, no thread": contender(loop, in_flight, own),
                "by hand: GIL, call_soon_threadsafe": contender(loop, in_flight, lambda: native.by_hand),
                "by hand, and the thread keeps its state": contender(loop, in_flight, lambda: native.by_hand_kept),
                "run_in_executor": contender(loop, in_flight, in_executor),
                "asyncio.to_thread": contender(
                    loop, in_flight, lambda: lambda number: asyncio.to_thread(native.blocking, number)
                ),
                "for scale: obstore's head_async, and its work": peers.with_peer("obstore", obstore(loop, in_flight)),
            }
            if in_flight == 1:
                floor, turn = "floor: there and back in C++", "one empty turn of the loop"
                contenders[floor] = Timed(lambda count: native.round_trips(count) / count)
                contenders[turn] = Timed(loops.on(loop, loops.empty_turns))
                contenders["that floor, and that turn"] = Sum((floor, turn))
            yield Case(
                "B1", f"an operation, {in_flight:,} in flight, {loop}", contenders, f"aiobridge, {loops.WAKERS[0]}"
            )
