"""aiobridge.Future.result() on threads that run no loop, and futures made where none runs."""

import asyncio
import signal
import threading
import time

import native
import pytest

import aiobridge
from aiobridge import _core


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


# Fails if what a signal handler raises inside a question to the loop is dropped, so that the wait goes on
@pytest.mark.parametrize("question", ["is_closed", "is_running"])
def test_what_the_loop_raises_when_it_is_asked_ends_the_wait_for_a_result(question):
    loop = asyncio.new_event_loop()

    async def make():
        return native.make_Promise()

    def interrupted():
        raise KeyboardInterrupt

    _promise, future = loop.run_until_complete(make())
    setattr(loop, question, interrupted)
    with pytest.raises(KeyboardInterrupt):
        future.result(timeout=5)
    delattr(loop, question)
    loop.close()


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


@pytest.fixture
def only_woken():
    """Threads in result() find nothing by looking: what ends their wait has to wake them."""
    before = _core._set_look_interval(3600)
    yield
    _core._set_look_interval(before)


def wait_in_threads(future, count):
    """Have threads call result(), and return when they sleep there."""
    outcomes = []

    def wait():
        try:
            outcomes.append(future.result())
        except (RuntimeError, aiobridge.BrokenPromiseError, asyncio.CancelledError) as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=wait, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    while _core._waiting_threads() < count:
        time.sleep(0)
    return threads, outcomes


# Fails if what ends a wait in result() does not notify the thread: it would find out at its next look, here an hour
# later. (Broken in Operation::mark_delivered)
@pytest.mark.parametrize(
    ("end", "outcome"), [("delivered", 8), ("failed", RuntimeError), ("cancelled", asyncio.CancelledError)]
)
async def test_threads_that_wait_for_a_result_of_a_loop_are_woken(end, outcome, only_woken):
    promise, future = native.make_Promise()
    threads, outcomes = wait_in_threads(future, 2)
    if end == "delivered":
        promise.set_from_thread(8)
    elif end == "failed":
        promise.fail("not today")
    else:
        future.cancel()
    async with asyncio.timeout(20):
        while any(thread.is_alive() for thread in threads):
            await asyncio.sleep(0)
    assert outcomes == [outcome] * 2


# The same, broken in Operation::become_ready and, for the cancel, in mark_delivered
@pytest.mark.parametrize(
    ("end", "outcome"),
    [("set", 8), ("dropped", aiobridge.BrokenPromiseError), ("cancelled", asyncio.CancelledError)],
)
def test_threads_that_wait_where_no_loop_runs_are_woken(end, outcome, only_woken):
    promise, future = native.make_Promise()
    threads, outcomes = wait_in_threads(future, 3)
    if end == "set":
        promise.set_from_thread(8)
    elif end == "dropped":
        promise.drop_in_thread()
    else:
        future.cancel()
    for thread in threads:
        thread.join(20)
    assert outcomes == [outcome] * 3


# Fails if a second thread in result() converts what another thread is converting
def test_a_result_is_converted_once_though_two_threads_want_it():
    gate = native.ConversionGate()
    promise, future = native.make_ChosenPromise()
    promise.set("gated")
    results = []
    thread = threading.Thread(target=lambda: results.append(future.result(20)))
    thread.start()
    while not gate.entered:
        time.sleep(0)  # the thread is inside the conversion, which has given up the GIL
    with pytest.raises(TimeoutError, match="not done in time"):
        future.result(0.01)
    gate.open()
    results.append(future.result(20))
    thread.join()
    assert results == ["gated", "gated"]
    assert results[0] is results[1]
    assert gate.entered == 1
