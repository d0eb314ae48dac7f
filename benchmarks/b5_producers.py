"""B5: what does a post cost the native thread that makes it?"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import bench_native as native
import loops
from contenders import Contender, Sampled, Size, Timed
from measure import Case

AT_ONCE = 10_000  # events, or operations, in a turn; then Python takes them
PAUSE = 300  # microseconds, after which a loop with nothing to do sleeps


def empty(stream) -> None:
    for _ in range(stream.qsize()):
        stream.get_nowait()


def seconds(nanoseconds) -> list[float]:
    return (nanoseconds * 1e-9).tolist()


def pushes(threads: int) -> Timed:
    async def main(count: int) -> float:
        pusher = native.Pusher(capacity=AT_ONCE * threads)
        stream = pusher.stream()
        took = 0.0
        turns = count // AT_ONCE
        for _ in range(turns):
            took += pusher.push(AT_ONCE, threads)
            empty(stream)
        return took / (turns * AT_ONCE)

    return Timed(loops.on("asyncio", main), at_least=AT_ONCE, at_most=20 * AT_ONCE)


def pushes_to_a_consumer() -> Timed:
    """Events, while the loop takes others."""

    async def main(count: int) -> float:
        pusher = native.Pusher(capacity=AT_ONCE)

        async def consume() -> None:
            left = turns * AT_ONCE
            async for batch in pusher.stream().batches(AT_ONCE):
                left -= len(batch)
                if not left:
                    break

        turns = count // AT_ONCE
        consuming = asyncio.create_task(consume())
        took = 0.0
        for _ in range(turns):
            took += await asyncio.to_thread(pusher.push, AT_ONCE)
        await consuming
        return took / (turns * AT_ONCE)

    return Timed(loops.on("asyncio", main), at_least=AT_ONCE, at_most=20 * AT_ONCE)


def values(threads: int) -> Timed:
    async def main(count: int) -> float:
        setter = native.Setter()
        took = 0.0
        turns = count // AT_ONCE
        for _ in range(turns):
            waiting = asyncio.gather(*setter.make(AT_ONCE))
            await asyncio.sleep(0)
            took += setter.set(threads)
            await waiting
        return took / (turns * AT_ONCE / threads)

    return Timed(loops.on("asyncio", main), at_least=AT_ONCE, at_most=20 * AT_ONCE)


def each_push(circumstances) -> Sampled:
    async def main(count: int) -> list[float]:
        pusher = native.Pusher(capacity=AT_ONCE)
        stream = pusher.stream()
        took: list[float] = []
        while len(took) < count:
            with circumstances():
                took += seconds(pusher.push_each(AT_ONCE))
            empty(stream)
        return took

    return Sampled(loops.on("asyncio", main))


def each_value(circumstances) -> Sampled:
    async def main(count: int) -> list[float]:
        setter = native.Setter()
        took: list[float] = []
        while len(took) < count:
            waiting = asyncio.gather(*setter.make(AT_ONCE))
            await asyncio.sleep(0)
            with circumstances():
                took += seconds(setter.set_each())
            await waiting
        return took

    return Sampled(loops.on("asyncio", main))


def to_a_sleeper(name: str, wakeup: str) -> Sampled:
    """Each post finds the loop asleep, and wakes it."""

    async def push(count: int) -> list[float]:
        pusher = native.Pusher(capacity=AT_ONCE)

        async def consume() -> None:
            async for _ in pusher.stream():
                pass

        consuming = asyncio.create_task(consume())
        took = await asyncio.to_thread(pusher.push_each, count, PAUSE)
        consuming.cancel()
        return seconds(took)

    async def set_value(count: int) -> list[float]:
        setter = native.Setter()
        waiting = asyncio.gather(*setter.make(count))
        took = await asyncio.to_thread(setter.set_each, PAUSE)
        await waiting
        return seconds(took)

    return Sampled(loops.on("asyncio", {"push": push, "set_value": set_value}[name], wakeup))


def each_gil(circumstances) -> Sampled:
    def run(count: int) -> list[float]:
        with circumstances():
            return seconds(native.take_gil_each(min(count, 100)))

    return Sampled(run)


def in_loop(native_loop: Callable[[int], float]) -> Timed:
    return Timed(lambda count: native_loop(count) / count, at_least=AT_ONCE, at_most=20 * AT_ONCE)


def cases(size: Size) -> Iterator[Case]:
    yield Case(
        "B5",
        "a post of 24 bytes, amortised, on the producer's thread",
        {
            "push": pushes(1),
            "push, while another thread pushes to the same stream": pushes(2),
            "push, while the loop takes others": pushes_to_a_consumer(),
            "set_value, of a result that a task waits for": values(1),
            "set_value, while another thread sets others": values(2),
            "taking the GIL, which nobody else wants": in_loop(native.take_gil),
            "taking the GIL, and the thread keeps its state": in_loop(native.take_gil_with_state_kept),
            "floor: an atomic exchange and a copy": in_loop(native.exchange_and_copy),
        },
        "push",
    )
    for name, circumstances in (
        ("quiet", contextlib.nullcontext),
        ("while another thread computes in Python", loops.hogged_gil),
    ):
        yield Case(
            "B5",
            f"each post, {name} (reading the clock included)",
            {
                "push": each_push(circumstances),
                "set_value": each_value(circumstances),
                "taking the GIL": each_gil(circumstances),
            },
            "push",
        )
    contenders: dict[str, Contender] = {
        f"{name}, {wakeup}": to_a_sleeper(name, wakeup) for name in ("push", "set_value") for wakeup in loops.WAKERS
    }
    yield Case("B5", "each post that wakes a loop (reading the clock included)", contenders, "push, call_soon")
