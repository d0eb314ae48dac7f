"""Decodes a fuzzer's input into calls of the C ABI and acts of Python, and checks what is left when all is over.

Run by run.sh. Everything is one flat list of acts, each one a number and its arguments from the input's bytes; the same
acts are done again inside of what the runtime calls (converters, callbacks, done callbacks), three deep.
"""

import asyncio
import gc
import importlib.machinery
import importlib.util
import logging
import os
import sys
import sysconfig
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import aiobridge
from aiobridge import _core


def load_harness() -> Any:
    """The harness is in the same file as the core."""
    loader = importlib.machinery.ExtensionFileLoader("abi_fuzz", _core.__file__)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("abi_fuzz", loader))
    loader.exec_module(module)
    return module


abi = load_harness()
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    assert not sys._is_gil_enabled(), "what was loaded has turned the GIL on"
FATES = ("accepted", "evicted", "merged", "dropped", "full", "closed", "timed_out", "would_deadlock", "no_memory")
NATIVE_OBJECTS = ("operations", "streams", "callbacks", "scopes", "hooks")
NUMBERS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255, 1 << 24, 1 << 31, (1 << 31) + 1, 1 << 63, (1 << 64) - 1)
CAPACITIES = (1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 5, 8, 64, 1024, 0, 1, 1, 2, 3, 1 << 31, (1 << 31) + 1, (1 << 64) - 1)
TIMEOUTS = (0, 1, 1000, (1 << 64) - 1)
WRITER, CALLBACK = 3, 5  # of enum class Role
TRACING = "AIOBRIDGE_FUZZ_TRACE" in os.environ


def trace(*words: object) -> None:
    """What a replay did, one act a line."""
    if TRACING:
        print(*words, flush=True)


class Boom(Exception):
    """Raised by what the runtime calls."""


# What a call may raise, whatever was done before. SystemError and the like are found.
EXPECTED = (
    aiobridge.BridgeError,
    asyncio.CancelledError,
    asyncio.InvalidStateError,
    asyncio.QueueEmpty,
    Boom,
    LookupError,
    RuntimeError,
    StopAsyncIteration,
    TimeoutError,
    TypeError,
    ValueError,
)


class Machine:
    """What lives through all inputs: the loop, until an input closes it."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.data = memoryview(b"")
        self.position = self.depth = 0
        self.objects: list[Any] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.array_taken = self.started = False

    def byte(self) -> int:
        if self.position >= len(self.data):
            return 0
        self.position += 1
        return self.data[self.position - 1]

    @property
    def running(self) -> bool:
        return asyncio._get_running_loop() is not None

    # What the runtime calls.

    def again(self) -> int:
        """A byte, after as many acts as it says."""
        if self.depth >= 3 or not self.position < len(self.data):
            return 1
        self.depth += 1
        try:
            chosen = self.byte()
            for _ in range(chosen % 3):
                self.step()
            return chosen
        finally:
            self.depth -= 1

    def on_value(self, number: int) -> int:
        if self.again() % 16 == 8:
            raise Boom
        return number

    def on_arguments(self, number: int) -> tuple[int]:
        return (self.on_value(number),)

    def on_result(self, number: int) -> None:
        self.on_value(number)

    def called(self, *_arguments: object) -> Any:
        """A function, which may raise, or return something to be awaited."""
        chosen = self.again()
        if chosen % 8 == 4:
            raise Boom
        return self.wait(chosen) if chosen % 8 == 5 else None

    async def wait(self, turns: int) -> None:
        for _ in range(turns % 4):
            await asyncio.sleep(0)
        self.again()

    # What an input does. Each returns quickly and may raise what is expected.

    def make_operation(self) -> None:
        abi.make_operation(self.byte())

    def make_stream(self) -> None:
        policy, capacity, marks = self.byte(), CAPACITIES[self.byte() % len(CAPACITIES)], self.byte()
        high, low = (0, 0) if marks < 224 else (NUMBERS[marks % 16], NUMBERS[marks // 4 % 4])
        status = abi.make_stream(
            policy % 7 if policy < 252 else 7, policy // 7, capacity, high, low, TIMEOUTS[marks % 4]
        )
        assert status in (0, -1, -2, -3, -5), status

    def make_callback(self) -> None:
        async def coroutine(*_arguments: object) -> None:
            await self.wait(self.again())

        abi.make_callback((self.called, coroutine, repr, None)[self.byte() % 4 if self.running else 0])

    def act(self) -> None:
        index, what, argument, where, follower, follower_does = (self.byte() for _ in range(6))
        abi.act(index, what, NUMBERS[argument % 16], where, follower, follower_does)

    def burst(self) -> None:
        """Of pushes or calls."""
        where, role = self.byte(), (WRITER, WRITER, CALLBACK)[self.byte() % 3]
        index = abi.find(role, where // 8)
        for each in range(self.byte() % 8):
            abi.act(index, 10, each, where, index, 0)

    def copy(self) -> None:
        abi.copy(self.byte(), bool(self.byte() & 1))

    def drop(self) -> None:
        flags = self.byte()
        abi.drop(self.byte(), bool(flags & 1), bool(flags & 2))

    def object_of(self) -> None:
        self.objects.append(abi.object_of(self.byte()))

    def forget(self) -> None:
        if self.objects:
            del self.objects[self.byte() % len(self.objects)]

    def submit(self) -> None:
        abi.submit(self.byte(), self.byte())

    def report(self) -> None:
        abi.report("reported " * (self.byte() % 4))

    def collect_garbage(self) -> None:
        gc.collect(self.byte() % 3)

    def look(self) -> None:
        for each in self.objects:
            repr(each)
        aiobridge.stats()

    def cancel(self) -> None:
        if self.tasks:
            self.tasks[self.byte() % len(self.tasks)].cancel()

    def use(self) -> None:
        """One of its methods; what must be awaited becomes a task."""
        if not self.objects:
            return
        thing, chosen = self.objects[self.byte() % len(self.objects)], self.byte()
        if isinstance(thing, aiobridge.Future):
            self.spawn(self.use_future(thing, chosen), chosen)
        elif isinstance(thing, aiobridge.Stream):
            self.spawn(self.use_stream(thing, chosen), chosen)

    def use_future(self, future: aiobridge.Future[Any], chosen: int) -> Awaitable[Any] | None:
        if chosen % 8 == 0:
            future.cancel("enough")
        elif chosen % 8 == 1:
            future.add_done_callback(self.called)
        elif chosen % 8 == 2:
            future.remove_done_callback(self.called)
        elif chosen % 8 == 3:
            future.result(0)
        elif chosen % 8 == 4:
            future.exception()
        else:
            return future
        return None

    def use_stream(self, stream: aiobridge.Stream[Any], chosen: int) -> Awaitable[Any] | None:
        match chosen % 16:
            case 0:
                stream.get_nowait()
            case 1:
                return stream.aclose()
            case 2:
                stream.stats()
            case 3:
                stream.on_close(lambda reason: None)
            case 4 | 5 | 6:
                return anext(stream.batches(1 + self.byte() % 4, (self.byte() % 3) / 10000))
            case 7 | 8 | 9:
                self.array_taken = True
                return anext(stream.arrays(1 + self.byte() % 4, (self.byte() % 3) / 10000))
            case 10 | 11:
                return stream.get()
            case _:
                return anext(stream)
        return None

    def spawn(self, thing: Awaitable[Any] | None, chosen: int) -> None:
        if thing is None:
            return

        async def wait() -> None:
            try:
                await thing
            except EXPECTED:
                if chosen & 128:
                    raise

        if self.running:
            self.tasks.append(asyncio.get_running_loop().create_task(wait()))
        else:
            coroutine: Coroutine[Any, Any, None] = wait()
            try:
                coroutine.send(None)  # by hand, without a loop
            except (StopIteration, *EXPECTED):
                pass
            finally:
                coroutine.close()

    ACTS: tuple[Callable[["Machine"], None], ...] = (
        make_operation,
        make_stream,
        make_callback,
        act,
        act,
        act,
        burst,
        burst,
        burst,
        copy,
        drop,
        object_of,
        object_of,
        forget,
        submit,
        report,
        collect_garbage,
        look,
        cancel,
        use,
        use,
        use,
    )

    def step(self, number: int | None = None) -> None:
        act = self.ACTS[(self.byte() if number is None else number) % len(self.ACTS)]
        start = self.position
        try:
            act(self)
        except EXPECTED as error:
            trace(act.__name__, *self.data[start : self.position], repr(error))
        else:
            trace(act.__name__, *self.data[start : self.position])

    # The loop.

    def make_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        chosen = self.byte()
        loop.set_exception_handler(self.on_loop_error)
        loop.set_debug(chosen == 255)
        loop.run_until_complete(self.configure("fd" if chosen & 1 else "call_soon"))
        return loop

    async def configure(self, wakeup: str) -> None:
        aiobridge.configure(wakeup=wakeup)

    def on_loop_error(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and not isinstance(error, EXPECTED):
            raise SystemExit("".join(traceback.format_exception(error)))
        self.again()

    async def session(self) -> None:
        """Acts while a loop runs, until one that is done without."""
        if not self.started:  # nothing can be done with nothing
            self.started = True
            self.step(self.ACTS.index(Machine.make_operation))
            self.step(self.ACTS.index(Machine.make_stream))
        while self.position < len(self.data):
            number = self.byte()
            if number >= 240:
                return
            if number >= 200:
                await asyncio.sleep(0)
            else:
                self.step(number)

    async def settle(self) -> None:
        """Let go of everything, and wait until the runtime has."""
        self.data = memoryview(b"")
        self.objects.clear()
        while self.tasks:
            self.tasks.pop().cancel()
        abi.drop_all()
        deadline = time.monotonic() + 10
        for turn in range(sys.maxsize):
            await asyncio.sleep(0 if turn < 100 else 0.001)
            # An error that nobody took, dropped without the GIL, waits for a loop or for those who look. It may hold
            # the consumer of a stream that a call blocks on.
            stats = None if abi.open() and turn % 4 else _core.stats()
            left = stats and {name: stats[name] for name in NATIVE_OBJECTS if stats[name]}
            if left == {} and not abi.open() and not abi.blocks():
                return
            if turn % 16 == 8:
                gc.collect()
            assert time.monotonic() < deadline, f"left: {left}; {abi.open()}; blocks: {abi.blocks()}"

    def figures(self) -> tuple[dict[str, int], dict[str, int], int]:
        """Of all streams so far: as the runtime counts, and as the harness has counted."""
        stats, (fates, conversions) = aiobridge.stats().events, abi.fates()
        ours = dict(zip(FATES, fates, strict=True))
        ours["accepted"] += ours["evicted"] + ours["merged"]
        theirs = {name: getattr(stats, name) for name in ours}
        theirs |= {name: getattr(stats, name) for name in ("delivered", "undelivered", "pending")}
        return theirs, ours, conversions

    def one_input(self, data: bytes) -> None:
        before, ours_before, conversions_before = self.figures()
        self.data, self.position, self.array_taken, self.started = memoryview(data), 0, False, False
        while self.position < len(self.data):
            if self.loop is None:
                self.loop = self.make_loop()
            self.loop.run_until_complete(self.session())
            if (number := self.byte()) < 128:
                self.step(number)  # where no loop runs
            elif number < 160:
                self.loop.close()
                self.loop = None
        if self.loop is None:
            self.loop = self.make_loop()
        self.loop.run_until_complete(self.settle())
        abi.close()
        after, ours, conversions = self.figures()
        change = {name: after[name] - before[name] for name in after}
        assert {name: change[name] for name in ours} == {name: ours[name] - ours_before[name] for name in ours}
        accounted = sum(change[name] for name in ("delivered", "evicted", "merged", "undelivered"))
        assert change["accepted"] == accounted, change
        assert change["pending"] == after["pending"] == 0, after
        converted = conversions - conversions_before
        assert change["delivered"] == converted or (self.array_taken and change["delivered"] > converted), change


def main() -> None:
    logging.getLogger("aiobridge").disabled = True  # what is reported while no loop runs
    machine = Machine()
    abi.set_driver(machine)
    machine.one_input(bytes(64))
    # What is there for good is not looked at again.
    gc.collect()
    gc.freeze()
    abi.run(sys.argv, machine.one_input)


if __name__ == "__main__":
    main()
