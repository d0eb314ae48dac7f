"""aiobridge.Future: exactness of what comes back, cancels, errors, and the end of an operation."""

import asyncio

import native
import pytest
from waiting import Turns

import aiobridge


async def test_await_returns_the_value_of_a_native_thread():
    promise, future = native.make_Promise()
    promise.set_from_thread(42)
    assert await future == 42
    assert future.done()
    assert not future.cancelled()
    assert future.result() == 42
    assert future.exception() is None


async def test_a_finished_future_is_awaited_without_a_turn_of_the_loop():
    future = native.resolved(7)
    turns = Turns()
    assert await future == 7
    assert await future == 7
    assert turns.count == 0


async def test_a_future_is_one_python_object_however_often_it_is_returned():
    first, second = native.twice()
    assert first is second
    assert await first == 1


async def test_cancel_reaches_the_native_side_on_the_hook_thread():
    recorder = native.Recorder()
    promise, future = native.make_Promise()
    promise.on_cancel(recorder)
    assert promise.reason == "open"
    assert future.cancel("not needed")
    assert promise.cancelled
    assert promise.reason == "cancelled"
    assert future.cancelled()
    assert recorder.wait(2)
    assert recorder.records == ["cancelled on aiobridge-hooks", "closure destroyed on aiobridge-hooks"]
    with pytest.raises(asyncio.CancelledError, match="not needed"):
        await future
    assert not future.cancel()
    assert promise.set(1) == "closed"


async def test_a_hook_installed_after_the_cancel_runs_soon():
    promise, future = native.make_Promise()
    future.cancel()
    recorder = native.Recorder()
    promise.on_cancel(recorder)
    assert recorder.wait(2)
    assert recorder.records[0] == "cancelled on aiobridge-hooks"


async def test_a_hook_never_runs_for_an_operation_that_completed():
    recorder = native.Recorder()
    promise, future = native.make_Promise()
    promise.on_cancel(recorder)
    assert promise.set(1) == "accepted"
    assert await future == 1
    assert not future.cancel()
    assert recorder.wait(1)
    assert recorder.records == ["closure destroyed on aiobridge-hooks"]


async def test_a_hook_that_throws_is_reported_to_the_loops_exception_handler():
    reported = asyncio.Event()
    contexts = []

    def handler(loop, context):
        contexts.append(context)
        reported.set()

    asyncio.get_running_loop().set_exception_handler(handler)
    native.hook_that_throws().cancel()
    while not reported.is_set():
        await native.nothing()
    assert "the hook failed" in contexts[0]["message"]


async def test_cancelling_the_task_cancels_the_operation():
    recorder = native.Recorder()
    promise, future = native.make_Promise()
    promise.on_cancel(recorder)

    async def wait():
        await future

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel("stop it")
    with pytest.raises(asyncio.CancelledError, match="stop it"):
        await task
    assert await asyncio.to_thread(recorder.wait, 1)
    assert recorder.records[0] == "cancelled on aiobridge-hooks"


async def test_cancelled_by_the_native_side():
    with pytest.raises(asyncio.CancelledError):
        await native.cancelled_by_native()


async def test_a_broken_promise_does_not_run_its_cancel_hook():
    recorder = native.Recorder()
    promise, future = native.make_Promise()
    promise.on_cancel(recorder)
    promise.drop()
    with pytest.raises(aiobridge.BrokenPromiseError):
        await future
    assert recorder.wait(1)
    assert recorder.records == ["closure destroyed on aiobridge-hooks"]


async def test_the_first_completion_wins_and_the_second_is_reported():
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    before = aiobridge.stats().misuses
    promise, future = native.make_Promise()
    assert promise.set(1) == "accepted"
    assert promise.set(2) == "already_set"
    assert promise.fail("late") == "already_set"
    assert await future == 1
    assert aiobridge.stats().misuses == before + 2
    assert "fulfilled twice" in contexts[0]["message"]
    assert "operations.cpp" in contexts[0]["message"]


async def test_losing_to_a_cancel_is_no_misuse():
    before = aiobridge.stats().misuses
    promise, future = native.make_Promise()
    future.cancel()
    assert promise.set(1) == "closed"
    assert aiobridge.stats().misuses == before


async def test_a_token_that_is_kept_does_not_keep_the_promise():
    promise, future = native.make_Promise()
    promise.keep_token()
    promise.drop()
    with pytest.raises(aiobridge.BrokenPromiseError):
        await future


async def test_a_future_of_a_closed_loop_says_so():
    theirs = []

    async def elsewhere():
        theirs.append(native.make_Promise())

    await asyncio.to_thread(asyncio.run, elsewhere())
    promise, future = theirs[0]
    with pytest.raises(aiobridge.ClosedError, match="loop of this native operation was closed"):
        await future
    assert promise.set(1) == "closed"
    assert promise.reason == "loop_closed"


# Fails if Operation::on_cancel runs a late hook of a completed operation
async def test_a_hook_installed_after_the_completion_is_destroyed_and_never_runs():
    promise, future = native.make_Promise()
    assert promise.set(1) == "accepted"
    recorder = native.Recorder()
    promise.on_cancel(recorder)
    assert await asyncio.to_thread(recorder.wait, 1)
    assert recorder.records == ["closure destroyed on aiobridge-hooks"]
    assert await future == 1


# Fails if Operation::report_misuse does not nudge the loop
async def test_a_second_completion_is_reported_though_nothing_else_happens():
    reported = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.set())
    promise, future = native.make_Promise()
    promise.set(1)
    assert await future == 1
    for _ in range(3):
        await asyncio.sleep(0)  # the drain is at rest
    promise.set_from_thread(2)
    await asyncio.wait_for(reported.wait(), 20)


async def test_the_native_value_ends_with_its_delivery():
    promise, future = native.make_TrackedPromise()
    promise.set(native.Tracked(1))
    value = await future
    assert native.Tracked.live == 1  # the Python object; none is left in the operation, which the promise keeps
    del value, future
    await asyncio.sleep(0)  # the drain that has resumed us refers to the future
    assert native.Tracked.live == 0
    promise, future = native.make_TrackedPromise()
    promise.set(native.Tracked(2))
    del promise, future
    async with asyncio.timeout(20):
        while native.Tracked.live:  # until its drain has come
            await asyncio.sleep(0)
