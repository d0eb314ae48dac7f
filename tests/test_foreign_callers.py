"""Callbacks of libraries that have never heard of aiobridge, called on threads of theirs."""

import asyncio
import concurrent.futures
import ctypes
import functools
import signal
import sys
import sysconfig
import threading
from pathlib import Path
from typing import ClassVar

import native
import pytest
from waiting import HOOK_THREAD, hooks_have_run, until

import aiobridge

# ctypes: POSIX timers of the C library, which call back on threads that it makes for it.


class SigValue(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("pointer", ctypes.c_void_p)]


# It takes a SigValue; ctypes cannot pass unions to callbacks, but this one is passed as its pointer is.
NotifyPointer = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class SigEvent(ctypes.Structure):
    _fields_ = [
        ("value", SigValue),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", NotifyPointer),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_byte * 32),
    ]


class TimeSpec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class TimerSpec(ctypes.Structure):
    _fields_ = [("interval", TimeSpec), ("value", TimeSpec)]


CLOCK_MONOTONIC, SIGEV_THREAD = 1, 2
of_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "timer_create"),
    reason="the numbers and structures are those of Linux with glibc 2.34 or later",
)


class PosixTimer:
    """A timer of timer_create, which calls back once or, with an interval, until it is deleted."""

    libc = ctypes.CDLL(None, use_errno=True)
    live = 0
    # A call may be on its way when a timer is deleted, and what it calls must exist.
    callbacks: ClassVar[list[NotifyPointer]] = []

    def __init__(self, seconds, interval, callback):
        self.callback, self.once = callback, not interval
        self.callbacks.append(NotifyPointer(self.notify))
        event = SigEvent(SigValue(pointer=77), 0, SIGEV_THREAD, self.callbacks[-1])
        self.handle = ctypes.c_void_p()
        self.call("timer_create", CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self.handle))
        PosixTimer.live += 1
        spec = TimerSpec(*(TimeSpec(int(time), int(time % 1 * 1e9)) for time in (interval, seconds)))
        self.call("timer_settime", self.handle, 0, ctypes.byref(spec), None)

    def notify(self, pointer):
        if callback := self.callback:
            if self.once:
                self.delete()
            callback(pointer, threading.get_ident())

    def call(self, name, *arguments):
        if getattr(self.libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), name)

    def delete(self):
        self.callback = None
        self.call("timer_delete", self.handle)
        PosixTimer.live -= 1


@of_glibc
async def test_ctypes_a_timer_of_the_c_library():
    timer = aiobridge.awaitable(PosixTimer, cancel=PosixTimer.delete)
    pointer, thread = await asyncio.wait_for(timer(0.001, 0), 20)
    assert pointer == 77
    assert thread != threading.get_ident()


@of_glibc
async def test_ctypes_a_timer_that_is_cancelled():
    timer = aiobridge.awaitable(PosixTimer, cancel=PosixTimer.delete)
    live = PosixTimer.live
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(timer(3600, 0), 0)
    await hooks_have_run()
    assert PosixTimer.live == live


@of_glibc
async def test_ctypes_the_ticks_of_a_timer():
    live = PosixTimer.live
    ticks = aiobridge.subscribe(PosixTimer, 0.001, 0.001, unsubscribe=PosixTimer.delete)
    async with asyncio.timeout(20), ticks:
        pointers = {(await anext(ticks))[0] for _ in range(5)}
    assert pointers == {77}
    assert PosixTimer.live == live


# pybind11: std::functions that hold Python functions, and take the GIL on the library's threads, under its mutex.


async def test_pybind11_the_callback_last():
    assert await aiobridge.awaitable(native.Vendor().compute)(1) == 2


async def test_pybind11_callbacks_by_name():
    divide = aiobridge.awaitable(native.Vendor().divide, callback="on_done", errback="on_error")
    assert await divide(7, 2) == (3, 1)
    assert await divide(b=2, a=8) == (4, 0)
    with pytest.raises(aiobridge.CallbackError, match="on_error.33, 'division by zero'") as caught:
        await divide(1, 0)
    assert caught.value.arguments == (33, "division by zero")


async def test_pybind11_two_calls_of_one_callback():
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    assert await aiobridge.awaitable(native.Vendor().twice)(1) == 1
    await until(lambda: contexts)
    assert "fulfilled twice" in contexts[0]["message"]


async def test_pybind11_a_callback_that_is_dropped():
    vendor = native.Vendor()
    future = aiobridge.awaitable(vendor.wait, cancel=vendor.abort)()
    vendor.forget()
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        await until(future.done)  # turns the loop, without which Python would not free it: see architecture.md
    with pytest.raises(aiobridge.BrokenPromiseError):
        await asyncio.wait_for(future, 20)


async def test_pybind11_cancel_reaches_the_library_once():
    vendor, aborted = native.Vendor(), []

    def abort(handle):
        aborted.append((handle, native.this_thread_name()))
        vendor.abort(handle)

    wait = aiobridge.awaitable(vendor.wait, cancel=abort)
    kept = wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait(), 0)
    await hooks_have_run()
    assert aborted == [(2, HOOK_THREAD)]
    assert not kept.done()


@pytest.mark.parametrize("how", ["break", "cancel"])
async def test_pybind11_unsubscribe_waits_for_the_thread_that_calls_back(how):
    """Which waits for the GIL with the mutex held that `off_message` takes first."""
    vendor, unsubscribed = native.Vendor(), []

    def off(handle):
        vendor.off_message(handle)
        unsubscribed.append(handle)

    async def consume():
        async with aiobridge.subscribe(
            vendor.on_message, "topic", unsubscribe=off, overflow="drop_oldest", capacity=4
        ) as messages:
            async for topic, number in messages:
                assert topic == "topic"
                if number >= 3:
                    started.set()
                    if how != "cancel":
                        break

    started = asyncio.Event()
    task = asyncio.create_task(consume())
    await started.wait()
    if how == "cancel":
        task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() == (how == "cancel")
    assert unsubscribed == [1]


async def test_pybind11_a_flood_overflows_and_unsubscribes():
    vendor = native.Vendor()
    subscription = aiobridge.subscribe(vendor.on_message, "topic", unsubscribe=vendor.off_message, capacity=2)
    async with subscription as messages:
        await until(lambda: messages.closed)
        assert [await anext(messages), await anext(messages)] == [("topic", 0), ("topic", 1)]
        with pytest.raises(aiobridge.StreamOverflow):
            await anext(messages)
    with pytest.raises(ValueError, match="no subscription 1"):  # it was unsubscribed
        vendor.off_message(1)


# Python's own.


async def test_a_threading_timer():
    def after(seconds, callback):
        timer = threading.Timer(seconds, callback, ["argument"])
        timer.start()
        return timer

    timer = aiobridge.awaitable(after, cancel=threading.Timer.cancel)
    assert await asyncio.wait_for(timer(0.001), 20) == "argument"
    before = threading.active_count()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(timer(3600), 0)
    await until(lambda: threading.active_count() <= before)


async def test_a_future_of_an_executor():
    go_on = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:

        @aiobridge.awaitable(cancel=concurrent.futures.Future.cancel)
        def submit(fn, callback):
            future = executor.submit(fn)
            future.add_done_callback(callback)
            return future

        running = submit(functools.partial(go_on.wait, 20))
        waiting = submit(go_on.is_set)
        waiting.cancel()
        await hooks_have_run()
        go_on.set()
        done = await asyncio.wait_for(running, 20)
        assert done.result() is True


async def test_watchdog(tmp_path):
    events, observers = (pytest.importorskip(f"watchdog.{name}") for name in ("events", "observers"))

    class Handler(events.FileSystemEventHandler):
        def __init__(self, callback):
            self.on_created = callback

    observer = observers.Observer()
    observer.start()

    def watch(path, callback):
        return observer.schedule(Handler(callback), str(path))

    async with (
        asyncio.timeout(20),
        aiobridge.subscribe(watch, tmp_path, unsubscribe=observer.unschedule) as created,
    ):
        for name in ("one", "two"):
            (tmp_path / name).touch()
        names = {Path((await anext(created)).src_path).name for _ in range(2)}
    assert names == {"one", "two"}
    assert not observer.emitters
    observer.stop()
    await asyncio.to_thread(observer.join)


async def test_a_signal_handler():
    """On the loop's own thread, between any two of its instructions."""

    before = signal.getsignal(signal.SIGUSR1)
    async with aiobridge.subscribe(signal.signal, signal.SIGUSR1) as signals:
        signal.raise_signal(signal.SIGUSR1)
        number, _frame = await asyncio.wait_for(anext(signals), 20)
    signal.signal(signal.SIGUSR1, before)
    assert number == signal.SIGUSR1
