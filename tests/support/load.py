"""A mixed load: whatever programs do with native results, events and calls, and stop doing in the middle."""

import asyncio
import functools
import gc
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import native

import aiobridge

POLICIES = ("refuse", "drop_oldest", "drop_newest", "block", "conflate", "error", "unbounded")
TAKEN = ("accepted", "evicted_oldest", "merged")
OVER = (aiobridge.BrokenStreamError, aiobridge.StreamOverflow, RuntimeError)
NewLoop = Callable[[], asyncio.AbstractEventLoop]


class Load:
    """Does one thing after another, in several tasks, and counts what it did."""

    def __init__(self, draw: random.Random, new_loop: NewLoop) -> None:
        self.draw = draw
        self.new_loop = new_loop
        self.done: Counter[str] = Counter()
        self.accepted = 0  # events, as the producers counted them
        self.complaints: list[str] = []

    async def run(self, seconds: float, tasks: int = 6) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self.complaints.append(repr(context)))
        until = loop.time() + seconds

        async def work() -> None:
            while loop.time() < until:
                job = self.draw.choice(JOBS)
                async with asyncio.timeout(60):  # what hangs fails
                    await job(self)
                self.done[job.__name__] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(work())

    def accept(self, number: int) -> None:
        self.accepted += number

    def count(self, what: str, number: int = 1) -> None:
        self.done[what] += number

    async def settle(self, awaitable: Awaitable[Any], *, late: float = 0.002) -> Any:
        """Awaits, and perhaps gives up, by a timeout or a cancel."""
        match self.draw.randrange(4):
            case 0:
                try:
                    async with asyncio.timeout(self.draw.random() * late):
                        return await awaitable
                except TimeoutError:
                    self.count("timeouts")
            case 1:
                task = asyncio.ensure_future(wait_for(awaitable))
                task.add_done_callback(lambda done: done.cancelled() or done.exception())  # if we are cancelled too
                await asyncio.sleep(0)
                self.count("cancels", task.cancel())
                await asyncio.wait({task})
                return None if task.cancelled() else task.result()
            case _:
                return await awaitable


async def wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


async def operations(load: Load) -> None:
    """Of native threads: awaited, cancelled, or dropped."""
    burst = native.Burst()
    futures = burst.make(load.draw.randrange(1, 200))
    burst.go(load.draw.randrange(1, 4))
    for number, future in enumerate(futures):
        assert await load.settle(future) in (number, None)
    load.count("results", len(futures))
    burst.join()
    futures = burst.make(100)
    burst.go(2)
    del futures
    burst.join()


async def pool(load: Load) -> None:
    results = await asyncio.gather(*(native.add(number, 1) for number in range(20)))
    assert results == list(range(1, 21))
    load.count("results", 20)
    recorder = native.Recorder()
    future = native.run_until_stopped(recorder)
    await asyncio.sleep(0)
    future.cancel()
    failed = await asyncio.gather(
        native.fail_with("runtime_error"), native.fail_with("out_of_range"), return_exceptions=True
    )
    assert all(isinstance(error, Exception) for error in failed)


async def take_some(load: Load, stream: Any, arrays: bool = True) -> None:
    """Until the end, or until it has had enough."""
    left = load.draw.choice((5, 200, 1_000_000))
    many = load.draw.choice((None, stream.batches, stream.arrays if arrays else stream.batches))
    try:
        while left > 0:
            got = await load.settle(stream.get() if many is None else anext(many(64, 0.001)))
            size = 0 if got is None else 1 if many is None else len(got)
            load.count("events taken", size)
            left -= max(size, 1)
    except (StopAsyncIteration, aiobridge.EndOfStream, *OVER):
        pass


async def streams(load: Load) -> None:
    """Of every policy, with several native producers; either side ends them."""
    policy = load.draw.choice(POLICIES)
    make = load.draw.choice((native.make_stream, native.make_stream, native.make_tick_stream))
    writer, stream = make(load.draw.choice((1, 8, 1024)), policy, timeout=load.draw.choice((0.001, -1)))
    threads, count = load.draw.randrange(1, 4), load.draw.choice((10, 1000, 5000))

    async def produce() -> int:
        refused = await asyncio.to_thread(writer.push_all, count, threads)
        end = load.draw.choice((writer.close, writer.abort, functools.partial(writer.fail, "failed"), writer.drop))
        end()
        return threads * count - len(refused)

    async def consume(stream: Any) -> None:
        await take_some(load, stream)
        if load.draw.randrange(2):
            await stream.aclose()

    consumer = asyncio.create_task(consume(stream))
    del stream
    producers = asyncio.create_task(produce())
    if load.draw.randrange(4) == 0:
        await asyncio.sleep(0.001)
        load.count("cancels", consumer.cancel())
    await asyncio.wait({consumer})
    if not consumer.cancelled():
        consumer.result()
    del consumer  # and with it the stream
    load.accept(await producers)
    load.count("events pushed", threads * count)


async def callbacks(load: Load) -> None:
    calls = 0

    def function(number: int) -> int:
        nonlocal calls
        calls += 1
        return number

    async def coroutine(number: int) -> int:
        await asyncio.sleep(0)
        return function(number)

    caller = native.Caller(load.draw.choice((function, coroutine)))
    if load.draw.randrange(2):
        caller.limit(2, 16, load.draw.choice(("block", "refuse")))
    accepted = await asyncio.to_thread(caller.fire_from_threads, 50, 3)
    answers = await asyncio.gather(*(caller.ask(number) for number in range(3)))
    answered = sum(answer[0] == "value" for answer in answers)
    caller.drop()
    while calls < accepted + answered:
        await asyncio.sleep(0)
    assert calls == accepted + answered
    load.count("calls", calls)


async def python_producers(load: Load) -> None:
    promise, future = aiobridge.make_promise()
    promise.on_cancel(lambda reason: None)
    thread = asyncio.to_thread(promise.set_result, [future])  # a cycle
    await asyncio.gather(load.settle(future), thread)
    writer, stream = aiobridge.make_stream(8, load.draw.choice(POLICIES), timeout=0.01)
    stream.on_close(lambda reason: None)

    def push() -> Counter[str]:
        with writer:
            return Counter(writer.push([stream, number]) for number in range(100))

    producers = [asyncio.ensure_future(asyncio.to_thread(push)) for _ in range(2)]
    await take_some(load, stream, arrays=False)
    if load.draw.randrange(2):
        await stream.aclose()
    for fates in await asyncio.gather(*producers):
        load.accept(sum(fates[fate] for fate in TAKEN))
    load.count("events pushed", 200)


async def scopes(load: Load) -> None:
    """Left in the middle: what leaves closes the stream, and so ends its producers."""
    async with aiobridge.scope(timeout=30):
        writer, stream = native.make_stream(4, "block")
        producers = asyncio.create_task(push_and_drop(writer))
        consumer = asyncio.create_task(take_some(load, stream))
        promise, future = native.make_Promise()
        promise.set_from_thread(1)
        if load.draw.randrange(2):
            assert await future == 1
        await asyncio.wait({consumer}, timeout=load.draw.random() * 0.005)
        consumer.cancel()
        promise.drop()
    load.accept(await producers)


async def push_and_drop(writer: Any) -> int:
    refused = await asyncio.to_thread(writer.push_all, 50, 2)
    writer.drop()
    return 100 - len(refused)


async def adapters(load: Load) -> None:
    vendor = native.Vendor()
    compute = aiobridge.awaitable(vendor.compute)
    assert await load.settle(compute(1), late=0.01) in (2, None)
    stream = aiobridge.subscribe(
        vendor.on_message, "topic", unsubscribe=vendor.off_message, capacity=16, overflow="drop_oldest"
    )
    async with stream as messages:
        async for _ in messages:
            if load.draw.randrange(10) == 0:
                break
    # Its producer is the vendor, which does not count.
    load.accept(stream.stats().accepted)
    load.count("results")


async def loops(load: Load) -> None:
    """Another thread's loop, closed in the middle."""

    def thread() -> int:
        loop = load.new_loop()

        async def use() -> tuple[Any, ...]:
            promise, future = native.make_Promise()
            promise.set_from_thread(1)
            assert await future == 1
            return *native.make_TrackedPromise(), *native.make_tracked_stream(2)

        promise, future, writer, _stream = loop.run_until_complete(use())
        promise.set_from_thread(native.Tracked(1))
        accepted = writer.push(1) in TAKEN
        loop.close()
        assert isinstance(future.exception(), aiobridge.ClosedError)
        assert writer.push(2) == "closed"
        return accepted

    load.accept(await asyncio.to_thread(thread))


class Box:
    """For cycles. Made once: without a GIL Python 3.13 never frees a class that was made after a thread was."""


async def garbage(load: Load) -> None:
    def push(writer: Any) -> int:
        return sum(writer.push(number) in TAKEN for number in range(3))

    for _ in range(10):
        box = Box()
        box.box = box
        promise, box.future = native.make_TrackedPromise()
        writer, box.stream = native.make_tracked_stream(2, "drop_oldest")
        producer = asyncio.ensure_future(asyncio.to_thread(push, writer))
        promise.set_from_thread(native.Tracked(1))
        del box
        gc.collect(load.draw.randrange(2))
        load.accept(await producer)


Job = Callable[[Load], Coroutine[Any, Any, None]]
JOBS: tuple[Job, ...] = (
    operations,
    pool,
    streams,
    streams,
    callbacks,
    python_producers,
    scopes,
    adapters,
    loops,
    garbage,
)
