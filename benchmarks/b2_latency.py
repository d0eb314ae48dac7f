"""B2: how long from a native thread's post until the coroutine goes on?"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator

import bench_native as native
import loops
from contenders import Contender, Sampled, Size, Sum, Timed
from measure import Case

# Microseconds between the question and the post, so that all who wait sleep by then. Never the same, or the posts would
# come at the same moment of a busy loop's turn.
DELAYS = (250, 450)

CIRCUMSTANCES: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "an idle loop": contextlib.nullcontext,
    "a loop that computes in slices of 100 µs": loops.busy_loop,
    "another thread that computes in Python": loops.hogged_gil,
}


def contender(loop: str, ask, circumstances, wakeup: str | None = None) -> Sampled:
    async def main(count: int) -> list[float]:
        took = []
        with circumstances():
            for _ in range(count):
                posted = await ask(random.randint(*DELAYS))
                took.append((time.perf_counter_ns() - posted) * 1e-9)
            await asyncio.sleep(0)
        return took

    return Sampled(loops.on(loop, main, wakeup))


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
            if circumstances is contextlib.nullcontext:
                floor, turn = "floor: two C++ threads and an eventfd", "one empty turn of the loop"
                contenders[floor] = Sampled(one_way)
                contenders[turn] = Timed(loops.on(loop, loops.empty_turns))
                contenders["that floor, and that turn"] = Sum((floor, turn))
            yield Case("B2", f"from a post to its coroutine, {name}, {loop}", contenders, "aiobridge, fd")
