"""What a hostile user of aiobridge does: acts that are five numbers, and objects that act when they are looked at."""

import asyncio
import contextlib
import copy
import functools
import gc
import itertools
import math
import pickle
import random
import sys
import threading
import time
import types
import warnings
import weakref

from loops import LOOPS

import aiobridge
from aiobridge import _core

NATIVE_OBJECTS = ("operations", "streams", "callbacks", "scopes", "hooks")
POLICIES = ("refuse", "drop_oldest", "drop_newest", "block", "conflate", "error", "unbounded")


class Nasty(Exception):
    """Raised by hostile objects."""


class Interrupt(KeyboardInterrupt):
    """As if a signal handler had raised here."""


# What is documented, and what Python and asyncio raise themselves for wrong arguments and orders.
EXPECTED = (
    aiobridge.BridgeError,
    asyncio.CancelledError,
    asyncio.InvalidStateError,
    asyncio.QueueEmpty,
    ArithmeticError,
    AttributeError,
    GeneratorExit,
    Interrupt,
    LookupError,
    MemoryError,
    Nasty,
    NotImplementedError,
    RuntimeError,
    StopAsyncIteration,
    StopIteration,
    TimeoutError,
    TypeError,
    ValueError,
    pickle.PicklingError,
)
PLAIN = [None, True, -1, 0, 1, 2, 3, 0.0, 0.001, -0.5, math.nan, math.inf, 1e308, 2**31, 2**31 + 1, 2**63, 2**64]
PLAIN += [-(2**63) - 1, 10**30, "", "refuse", "fd", "call_soon", "timeout", "\ud800", "a\0b", b"x", (), (1, 2), [], {}]
PLAIN += [ValueError, ValueError("an error"), StopIteration("x"), StopIteration, StopAsyncIteration, GeneratorExit()]
PLAIN += [asyncio.CancelledError, asyncio.CancelledError("why"), Nasty, Interrupt, BaseException("base"), object]
PLAIN += [len, sys.getrefcount, int, float, NotImplemented, Ellipsis, gc.collect]


class Hostile:
    """An object whose special methods do other things first, and then raise or answer nonsense, by its seed."""

    def __init__(self, user, seed):
        self.user, self.seed = user, seed

    def _answer(self, answer):
        if self.user.armed:
            self.user.meddle(self.seed)
            if self.seed % 8 == 0:
                raise Nasty
            if self.seed % 64 == 9:
                raise Interrupt
            if self.seed % 16 == 2:
                return self
        return answer


def _hostile_method(answer):
    return lambda self, *arguments, **keywords: self._answer(answer)


for _name, _result in {
    "__eq__": True, "__hash__": 1, "__repr__": "hostile", "__bool__": True, "__len__": 1, "__float__": 0.001,
    "__index__": 1, "__call__": None, "__iter__": iter(()), "__await__": iter(()), "__next__": 1, "__del__": None,
    "__getitem__": 1, "__enter__": 1, "__exit__": None, "__fspath__": "x", "__reduce__": "x",
}.items():  # fmt: skip
    setattr(Hostile, _name, _hostile_method(_result))


class HostileError(Exception):
    """An exception of that kind. Its class makes one that is hostile too, or raises."""

    user = None

    def __init__(self, *arguments):
        super().__init__(*arguments)
        if self.user is not None and self.user.armed and not arguments:
            raise Nasty

    __eq__ = _hostile_method(True)
    __hash__ = _hostile_method(1)
    __repr__ = __str__ = _hostile_method("hostile")
    __bool__ = _hostile_method(False)
    __del__ = _hostile_method(None)
    _answer = Hostile._answer
    seed = 1


@functools.cache
def names_of(kind):
    """Of what the type defines itself."""
    if kind is types.FunctionType:
        return ["__call__"]
    return sorted(set().union(*map(vars, kind.__mro__[:-1])) - {"__doc__", "__module__", "__class_getitem__"})


class Hostilities:
    """One user: loops, threads, and every object that the API has given out so far."""

    def __init__(self, print_acts):
        self.print_acts = print_acts
        self.armed = False
        self.loop = self.other = None
        self.objects, self.tasks, self.failures = [], [], []
        self.streams, self.futures = weakref.WeakSet(), weakref.WeakSet()
        self.depth = threading.local()

    def start(self, kind, wakeup):
        self.kind = LOOPS[kind]
        self.wakeup, self.armed = wakeup, True
        self.before = aiobridge.stats()
        self.unraisable, sys.unraisablehook = sys.unraisablehook, self.on_unraisable
        self.warnings = warnings.catch_warnings()
        self.warnings.__enter__()
        warnings.simplefilter("ignore")
        self.loop = self.make_loop()

    def make_loop(self):
        loop = self.kind()
        loop.set_exception_handler(self.on_loop_error)

        async def configure():
            aiobridge.configure(wakeup=self.wakeup)

        loop.run_until_complete(configure())
        return loop

    # What must not happen.

    def blame(self, error, where):
        # A plain BaseException is one of our values.
        if error is not None and not isinstance(error, (*EXPECTED, HostileError)) and type(error) is not BaseException:
            self.failures.append(f"{type(error).__name__}: {error} in {where}")

    def on_unraisable(self, unraisable):
        self.blame(unraisable.exc_value, f"{unraisable.err_msg} (unraisable)")

    def on_loop_error(self, _loop, context):
        self.blame(context.get("exception"), context.get("message"))

    def check(self):
        assert not self.failures, self.failures
        for stream in list(self.streams):
            figures = stream.stats()
            taken = figures.delivered + figures.evicted + figures.merged + figures.undelivered + figures.pending
            assert figures.accepted == taken, figures

    # Acts.

    def perform_all(self, acts):
        for act in acts:
            self.perform(*act)

    def perform(self, what, i, j, a, b):
        act = ACTS[what % len(ACTS)]
        try:
            first, second = self.value(a), self.value(b)
            if self.print_acts:
                print(act.__name__, i, j, type(first), type(second), threading.current_thread().name, flush=True)
            act(self, i, j, first, second)
        except BaseException as error:
            self.blame(error, act.__name__)

    def meddle(self, seed):
        """What a hostile object does when it is looked at."""
        depth = getattr(self.depth, "value", 0)
        if depth >= 3 or not self.armed:
            return
        self.depth.value = depth + 1
        try:
            generator = random.Random(seed)
            for _ in range(generator.randrange(3)):
                self.perform(*(generator.randrange(2000) for _ in range(5)))
        finally:
            self.depth.value = depth

    def function(self, seed):
        return lambda *arguments, **keywords: Hostile(self, seed)._answer(None)

    def value(self, number):
        """Anything: half of it is plain, the rest our own objects and hostile ones."""
        kind, number = number % 6, number // 6
        match kind:
            case 0 | 1 | 2:
                return PLAIN[number % len(PLAIN)]
            case 3 if self.objects:
                return self.objects[number % len(self.objects)]
            case 4:
                return self.function(number)
        made = Hostile(self, number) if number % 3 else type("HostileError", (HostileError,), {"user": self})
        return made("given") if isinstance(made, type) and number % 2 else made

    def keep(self, *things):
        for thing in things:
            # Iterators and the like are not public, but whoever awaits by hand has them.
            if isinstance(thing, KEPT) or type(thing).__module__ == "aiobridge._core":
                self.objects.append(thing)
            if isinstance(thing, aiobridge.Stream):
                self.streams.add(thing)
            if isinstance(thing, aiobridge.Future):
                self.futures.add(thing)
        del self.objects[: max(0, len(self.objects) - 40)]

    def pick(self, number, kind=object):
        found = [each for each in self.objects if isinstance(each, kind)]
        if not found:
            raise LookupError
        return found[number % len(found)]

    def make_promise(self, _i, _j, _a, _b):
        self.keep(*aiobridge.make_promise())

    def make_stream(self, i, j, _a, _b):
        self.keep(*aiobridge.make_stream(1 + i % 3, POLICIES[j % len(POLICIES)], timeout=0.001))

    def make_stream_of(self, i, j, a, b):
        words = ("capacity", "overflow", "timeout", "high_watermark", "low_watermark", "nonsense")
        options = {"capacity": 2, words[i % len(words)]: a, words[j % len(words)]: b}
        if options.get("overflow") == "block":
            options["timeout"] = 0  # who waits for ever has asked for it
        self.keep(*aiobridge.make_stream(**options))

    def use(self, i, j, a, b):
        """A method called, or an attribute read, written or deleted."""
        thing = self.pick(i)
        name = names_of(type(thing))[j % len(names_of(type(thing)))]
        how = (i // 40 + j) % 7
        found = getattr(thing, name)
        if name == "result":
            # Not for ever.
            self.keep(thing.result((0, 0.001, -1, math.nan, a if isinstance(a, str) else 0)[how % 5]))
        elif name == "add_done_callback" and how % 2:
            found(a, context=b)
        elif callable(found):
            self.keep(found(*(a, b, None)[: (0, 1, 0, 1, 0, 1, 3)[how]]))
        elif how == 1:
            setattr(thing, name, a)
        elif how == 2:
            delattr(thing, name)

    def push(self, i, j, a, _b):
        writer = self.pick(i, aiobridge.Writer)
        for _ in range(1 + j % 4):
            writer.push(a)

    def complete(self, i, j, a, _b):
        promise = self.pick(i, aiobridge.Promise)
        (promise.set_exception if j % 3 == 0 else promise.set_result)(a)

    def iterate(self, i, _j, _a, _b):
        """An await by hand."""
        self.keep(iter(self.pick(i, aiobridge.Future).__await__()))
        self.keep(anext(self.pick(i, aiobridge.Stream)))

    def adapt(self, i, j, a, b):
        """Callback APIs: what they call back with comes later, if ever."""

        def function(*arguments, callback=None, errback=None):
            self.keep(callback, errback, *arguments)
            self.meddle(i)
            return a if i % 2 else None

        adapter, own = (aiobridge.awaitable, "cancel") if j % 2 else (aiobridge.subscribe, "unsubscribe")
        names = ("callback", "errback", "error_first", own, own, "overflow", "capacity", "nonsense")
        options = {"callback": "callback", "errback": "errback"} if i % 3 == 0 else {}
        options |= {names[j // 2 % len(names)]: b} if i % 5 else {}
        if adapter is aiobridge.subscribe:
            options["timeout"] = 0
        adapted = adapter(a if i % 7 == 0 else function, **options)
        self.keep(adapted(*(a, b)[: i % 3]) if isinstance(adapted, types.FunctionType) else adapted)

    def call_back(self, i, _j, a, b):
        """Any function that the API has handed out."""
        self.pick(i, types.FunctionType)(*(a, b)[: i % 3])

    def spawn(self, i, j, a, b):
        thing = self.pick(i)
        loop = asyncio.get_running_loop()
        self.tasks.append(loop.create_task(self.waits(thing, j, a, b)))

    async def waits(self, thing, how, a, b):
        with contextlib.suppress(*EXPECTED, HostileError):
            match how % 8:
                case 0:
                    await asyncio.wait_for(thing, 0.001)
                case 1:
                    await asyncio.gather(thing, asyncio.sleep(0), return_exceptions=bool(how & 8))
                case 2:
                    await asyncio.shield(thing)
                case 3:
                    async with thing:
                        await asyncio.sleep(0)
                        self.meddle(how)
                case 4:
                    async for event in thing:
                        self.meddle(how)
                        if event is a:
                            break
                case 5:
                    async for _events in thing.batches(1 + how % 5, 0.0001 * (how % 3)):
                        await asyncio.sleep(0)
                case 6:
                    async with aiobridge.scope(timeout=0.001, name=b):
                        self.meddle(how)
                        await thing
                case _:
                    await thing

    def cancel(self, i, _j, a, _b):
        if self.tasks:
            self.tasks[i % len(self.tasks)].cancel(a)

    def forget(self, i, j, _a, _b):
        if self.objects:
            del self.objects[i % len(self.objects) :][: j % 4]
            del self.objects[i % max(1, len(self.objects))]

    def collect_garbage(self, i, _j, _a, _b):
        gc.collect(i % 3)
        gc.set_threshold(*((1,) if i % 4 == 0 else (700, 10, 10)))

    def configure(self, i, _j, a, b):
        words = ("wakeup", "pool_threads", "nonsense")
        if i % 4:
            aiobridge.configure(**{words[i % 3]: a})
        else:
            self.keep(aiobridge.scope(timeout=a if isinstance(a, str) else 0, name=b))
        aiobridge.stats()
        _core.settings()

    def copy_it(self, i, j, _a, _b):
        (copy.copy, copy.deepcopy, pickle.dumps, weakref.ref, hash, repr, sys.getsizeof)[j % 7](self.pick(i))

    def nest(self, i, j, a, b):
        """A loop in a loop: another one, or the same one turned by hand."""
        outer = asyncio.get_running_loop()
        task = asyncio.current_task(outer)
        asyncio.events._set_running_loop(None)
        if task is not None:
            asyncio.tasks._leave_task(outer, task)
        try:
            if i % 2 and hasattr(outer, "_run_once"):
                outer.call_soon(self.perform, j, i, a if isinstance(a, int) else 1, 1, 1)
                asyncio.events._set_running_loop(outer)
                outer._run_once()
            else:
                inner = self.kind()
                inner.set_exception_handler(self.on_loop_error)
                inner.call_soon(self.meddle, j)
                inner.run_until_complete(asyncio.sleep(0))
                inner.close()
        finally:
            asyncio.events._set_running_loop(outer)
            if task is not None:
                if (left := asyncio.current_task(outer)) is not None:
                    asyncio.tasks._leave_task(outer, left)
                asyncio.tasks._enter_task(outer, task)

    # Where.

    def run(self, coroutine):
        try:
            self.loop.run_until_complete(coroutine)
        except BaseException as error:
            self.blame(error, "the loop")
        coroutine.close()

    def turn(self, turns):
        async def turning():
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run(turning())

    def on_the_loop(self, acts):
        async def acting():
            self.perform_all(acts)
            await asyncio.sleep(0)

        self.run(acting())

    def in_a_task(self, acts):
        """Which stays behind: each act has a turn of the loop."""

        async def task():
            for act in acts:
                self.perform(*act)
                await asyncio.sleep(0)

        async def start():
            self.tasks.append(asyncio.get_running_loop().create_task(task()))

        self.run(start())

    def in_a_thread(self, acts):
        thread = threading.Thread(target=self.perform_all, args=(acts,), daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), "a thread hangs"

    def on_another_loop(self, acts):
        if self.other is None:
            self.other = self.kind()
            self.other.set_exception_handler(self.on_loop_error)
            self.other_thread = threading.Thread(target=self.run_other, daemon=True)
            self.other_thread.start()
        done = threading.Event()

        async def acting():
            try:
                self.perform_all(acts)
            finally:
                done.set()

        coroutine = acting()
        asyncio.run_coroutine_threadsafe(coroutine, self.other)
        assert done.wait(20), "another loop hangs"

    def run_other(self):
        while not self.other_ends:
            try:
                self.other.run_forever()
            except BaseException as error:  # an Interrupt
                self.blame(error, "the other loop")

    other_ends = False

    def close_the_loop(self):
        self.loop.close()
        self.loop = self.make_loop()

    def end(self):
        """Let go of everything; then the native side has to, too."""
        if not self.armed:
            return
        gc.set_threshold(700, 10, 10)
        if self.other is not None:
            self.other_ends = True
            self.other.call_soon_threadsafe(self.other.stop)
            self.other_thread.join(20)
            assert not self.other_thread.is_alive(), "the other loop hangs"
            self.other.close()
        self.armed = False
        # A callback that holds the promise of the future that it waits for waits for ever.
        for future in list(self.futures):
            if future._callbacks:
                future.cancel()
        future = None
        self.objects.clear()
        for task in self.tasks:
            with contextlib.suppress(RuntimeError):  # of a closed loop
                task.cancel()
        task = None
        self.tasks.clear()
        for value in PLAIN:
            if isinstance(value, BaseException):  # whose traceback is whatever they were raised in
                value.__traceback__ = value.__context__ = value.__cause__ = None
        self.turn(3)
        deadline = time.monotonic() + 20
        for turn in itertools.count():
            self.turn(1)
            gc.collect() if turn % 8 == 0 else time.sleep(0.0005)
            now = aiobridge.stats()
            left = {name: getattr(now, name) - getattr(self.before, name) for name in NATIVE_OBJECTS}
            if not any(count > 0 for count in left.values()):
                break
            assert time.monotonic() < deadline, f"native objects are left: {left}"
        self.loop.close()
        aiobridge.configure(wakeup="call_soon")
        sys.unraisablehook = self.unraisable
        self.warnings.__exit__(None, None, None)
        assert not self.failures, self.failures
        events, before = now.events, self.before.events
        names = ("accepted", "delivered", "evicted", "merged", "undelivered")
        accepted, *fates = (getattr(events, name) - getattr(before, name) for name in names)
        assert accepted == sum(fates), (before, events)


KEPT = (aiobridge.Future, aiobridge.Promise, aiobridge.Writer, aiobridge.Stream, aiobridge.Scope, types.FunctionType)
ACTS = [Hostilities.make_promise, Hostilities.make_stream, Hostilities.make_stream_of, Hostilities.push]
ACTS += [Hostilities.complete, Hostilities.iterate, Hostilities.adapt, Hostilities.call_back, Hostilities.cancel]
ACTS += [Hostilities.forget, Hostilities.collect_garbage, Hostilities.configure, Hostilities.copy_it, Hostilities.nest]
ACTS += [Hostilities.use] * 6 + [Hostilities.spawn] * 4 + [Hostilities.make_promise, Hostilities.make_stream]
