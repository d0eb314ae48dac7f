"""aiobridge.Future.result() on threads that run no loop, and futures made where none runs."""

import asyncio
import signal
import threading
import time

import native
import pytest

import aiobridge


async def test_result_on_the_loops_thread_does_not_wait():
    promise, future = native.make_Promise()
    with pytest.raises(asyncio.InvalidStateError, match=r"Future pending.*no result yet"):
        future.result()
    with pytest.raises(asyncio.InvalidStateError, match="no exception yet"):
        future.exception()
    promise.set(1)
    assert await future == 1


async def test_result_on_another_thread_waits():
    promise, future = native.make_Promise()
    waiting = asyncio.create_task(asyncio.to_thread(future.result, 20))
    await asyncio.sleep(0)
    promise.set_from_thread(8)
    assert await waiting == 8


async def test_result_on_another_thread_is_released_by_a_cancel():
    _promise, future = native.make_Promise()
    waiting = asyncio.create_task(asyncio.to_thread(future.result, 20))
    await asyncio.sleep(0)
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_result_without_any_loop():
    assert native.add(1, 2).result(timeout=20) == 3
    assert native.resolved(4).result() == 4
    with pytest.raises(RuntimeError, match="it failed"):
        native.fail_with("runtime_error").result(timeout=20)
    promise, future = native.make_Promise()
    with pytest.raises(TimeoutError, match="not done in time"):
        future.result(timeout=0.01)
    promise.drop()
    with pytest.raises(aiobridge.BrokenPromiseError):
        future.result()


def test_result_refuses_wrong_arguments():
    future = native.resolved(4)
    with pytest.raises(TypeError, match="timeout"):
        future.result(1, 2)
    with pytest.raises(TypeError, match="timeout"):
        future.result(seconds=2)
    _promise, pending = native.make_Promise()
    with pytest.raises(TypeError):
        pending.result(timeout="soon")
    with pytest.raises(ValueError, match="not a number"):
        pending.result(timeout=float("nan"))


@pytest.mark.parametrize("completed", ["before", "after"])
def test_a_future_made_where_no_loop_runs_belongs_to_the_loop_that_awaits_it(completed, new_loop):
    promise, future = native.make_Promise()
    if completed == "before":
        promise.set(6)

    async def main():
        if completed == "after":
            promise.set_from_thread(6)
        assert await future == 6
        return future.get_loop() is asyncio.get_running_loop()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main())


def test_a_future_without_a_loop_says_what_to_do():
    _promise, future = native.make_Promise()
    with pytest.raises(RuntimeError, match="belongs to no loop yet.*await it in a coroutine"):
        future.get_loop()
    with pytest.raises(RuntimeError, match="belongs to no loop yet"):
        future.add_done_callback(print)
    with pytest.raises(RuntimeError, match="belongs to no loop yet"):
        future.__await__().send(None)


# Fails if result() does not look at signals while it waits
def test_a_signal_handler_that_raises_ends_the_wait_for_a_result():
    def handler(number, frame):
        raise KeyError("from the handler")

    _promise, future = native.make_Promise()
    before = signal.signal(signal.SIGALRM, handler)
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyError, match="from the handler"):
            future.result(timeout=5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 3


# Fails if callbacks of a future that another thread finishes do not wake the loop
@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_a_cancel_on_another_thread_wakes_the_loop(wakeup):
    async def main():
        aiobridge.configure(wakeup=wakeup)
        _promise, future = native.make_Promise()
        thread = threading.Timer(0.05, future.cancel)
        thread.start()
        done, _pending = await asyncio.wait([future], timeout=20)
        thread.join()
        return bool(done)

    assert asyncio.run(main())
