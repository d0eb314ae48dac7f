"""B2: how long from a native thread's post until the coroutine goes on?"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator

import bench_native as native
import loops
from contenders import Contender, Sampled, Size, Sum, Timed
from measure import Case

# Microseconds between the question and the post, so that all who wait sleep by then. Never the same, or the posts would
# come at the same moment of a busy loop's turn.
DELAYS = (250, 450)

Circumstances = Callable[[], contextlib.AbstractContextManager[None]]
CIRCUMSTANCES: dict[str, Circumstances] = {
    "an idle loop": contextlib.nullcontext,
    "a loop that computes in slices of 100 µs": loops.busy_loop,
    "another thread that computes in Python": loops.hogged_gil,
}


async def each(ask: Callable[[int], Awaitable[int]], count: int) -> list[float]:
    took = []
    for _ in range(count):
        posted = await ask(random.randint(*DELAYS))
        took.append((time.perf_counter_ns() - posted) * 1e-9)
    return took


def contender(
    loop: str, ask: Callable[[int], Awaitable[int]], circumstances: Circumstances, wakeup: str | None = None
) -> Sampled:
    async def main(count: int) -> list[float]:
        with circumstances():
            return await each(ask, count)

    return Sampled(loops.on(loop, main, wakeup))


class Reader:
    """A native thread writes to a descriptor that the loop reads: the least that wakes this loop; no value comes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._loop.add_reader(self._descriptor, self._readable)
        self._waiting: asyncio.Future[int]

    def ask(self, delay: int) -> asyncio.Future[int]:
        self._waiting = self._loop.create_future()
        native.write_stamped(self._descriptor, delay)
        return self._waiting

    def _readable(self) -> None:
        os.eventfd_read(self._descriptor)
        self._waiting.set_result(native.stamp())

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


def reader(loop: str, circumstances: Circumstances) -> Sampled:
    async def main(count: int) -> list[float]:
        with contextlib.closing(Reader()) as made, circumstances():
            return await each(made.ask, count)

    return Sampled(loops.on(loop, main))


def one_way(count: int) -> list[float]:
    return [nanoseconds * 1e-9 for nanoseconds in native.one_way(count, sum(DELAYS) // 2).tolist()]


def cases(size: Size) -> Iterator[Case]:
    for loop in loops.LOOPS:
        for name, circumstances in CIRCUMSTANCES.items():
            contenders: dict[str, Contender] = {
                f"aiobridge, {wakeup}": contender(loop, native.ours_stamped, circumstances, wakeup)
                for wakeup in loops.WAKERS
            }
            contenders["by hand: GIL, call_soon_threadsafe"] = contender(loop, native.by_hand_stamped, circumstances)
            contenders["floor: a descriptor that the loop reads, no value"] = reader(loop, circumstances)
            if circumstances is contextlib.nullcontext:
                floor, turn = "floor: two C++ threads and an eventfd", "one empty turn of the loop"
                contenders[floor] = Sampled(one_way)
                contenders[turn] = Timed(loops.on(loop, loops.empty_turns))
                contenders["that floor, and that turn"] = Sum((floor, turn))
            yield Case("B2", f"from a post to its coroutine, {name}, {loop}", contenders, "aiobridge, fd")
