"""aiobridge.Future: what asyncio, and those who look into its futures, ask of one."""

import asyncio
import gc
import weakref

import native
import pytest

import aiobridge


async def test_a_weak_reference_that_dies_does_not_find_the_dying_future():
    found = []
    again = native.Again()

    def ask(_reference):
        try:
            found.append(again.future())
        except RuntimeError as error:
            found.append(str(error))

    reference = weakref.ref(again.future(), ask)
    gc.collect()
    assert reference() is None
    assert found == ["the Future of a native operation was dropped; it cannot be made again"]


async def test_an_exception_that_nobody_retrieves_is_reported_once():
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    promise, future = native.make_Promise()
    promise.fail("lost")
    while not future.done():
        await asyncio.sleep(0)
    del future
    gc.collect()
    assert [context["message"] for context in contexts] == ["aiobridge.Future exception was never retrieved"]
    assert str(contexts[0]["exception"]) == "lost"


async def test_what_asyncio_does_with_futures():
    assert asyncio.isfuture(native.add(1))
    assert await asyncio.gather(*(native.add(i) for i in range(100))) == list(range(1, 101))
    assert await asyncio.wait_for(native.add(1), 20) == 2
    assert await asyncio.shield(native.add(2)) == 3
    done, pending = await asyncio.wait([native.add(3), native.add(4)])
    assert sorted(future.result() for future in done) == [4, 5]
    assert not pending
    assert sorted([await each for each in asyncio.as_completed([native.add(5), native.add(6)])]) == [6, 7]
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:

        async def job(number):
            return await native.add(number)

        jobs = [group.create_task(job(number)) for number in range(10)]
    assert [job.result() for job in jobs] == list(range(1, 11))


async def test_gather_takes_cancelled_futures():
    _promise, future = native.make_Promise()
    _other, plain = native.make_Promise()
    future.cancel("not needed")
    plain.cancel()
    results = await asyncio.wait_for(asyncio.gather(future, plain, native.add(1), return_exceptions=True), 20)
    assert [type(result) for result in results] == [asyncio.CancelledError, asyncio.CancelledError, int]
    assert results[0].args == ("not needed",)


async def test_a_timeout_cancels_the_operation():
    recorder = native.Recorder()
    promise, future = native.make_Promise()
    promise.on_cancel(recorder)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await future
    assert await asyncio.to_thread(recorder.wait, 1)
    assert promise.reason == "cancelled"


async def test_an_await_is_not_used_twice_and_needs_a_loop_that_runs_it():
    future = native.resolved(1)
    step = future.__await__()
    with pytest.raises(StopIteration):
        step.send(None)
    with pytest.raises(RuntimeError, match="used twice"):
        step.send(None)
    promise, pending = native.make_Promise()
    step = pending.__await__()
    assert step.send(None) is pending
    with pytest.raises(RuntimeError, match="still pending"):
        step.send(None)
    with pytest.raises(KeyError):
        step.throw(KeyError("thrown in"))
    promise.set(1)


def test_a_future_is_made_by_native_functions_only():
    with pytest.raises(TypeError, match="cannot create 'aiobridge.Future'"):
        aiobridge.Future()
    with pytest.raises(TypeError, match="cannot create 'aiobridge.Stream'"):
        aiobridge.Stream()
    assert aiobridge.Future.__module__ == aiobridge.Stream.__module__ == "aiobridge"


async def test_repr_tells_the_state_and_the_place():
    promise, future = native.make_Promise()
    assert "pending, made at operations.cpp:" in repr(future)
    promise.fail("no")
    with pytest.raises(RuntimeError):
        await future
    assert "failed" in repr(future)


async def test_debug_mode_gives_the_same_results():
    asyncio.get_running_loop().set_debug(True)
    assert await asyncio.gather(*(native.add(i) for i in range(50))) == list(range(1, 51))
    assert [number async for number in native.numbers(500)] == list(range(500))


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with Python 3.12")
async def test_eager_tasks_complete_at_once_with_what_is_ready():
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

    async def wait(future):
        return await future

    ready = asyncio.create_task(wait(native.resolved(3)))
    assert ready.done()
    assert ready.result() == 3
    assert await asyncio.create_task(wait(native.add(1))) == 2


# Fails if an error that was looked at is logged as never retrieved
@pytest.mark.parametrize("how", ["await", "result", "exception", "cancel"])
async def test_an_exception_that_is_retrieved_is_not_reported(how):
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    promise, future = native.make_Promise()
    promise.fail("seen")
    while not future.done():
        await asyncio.sleep(0)
    if how == "await":
        with pytest.raises(RuntimeError, match="seen"):
            await future
    elif how == "result":
        with pytest.raises(RuntimeError, match="seen"):
            future.result()
    elif how == "exception":
        assert str(future.exception()) == "seen"
    else:
        assert not future.cancel()  # as asyncio's
    reference = weakref.ref(future)
    del future
    gc.collect()
    assert reference() is None
    assert contexts == []


# Values that StopIteration would unpack or raise, where the await is iterated by hand (and, up to Python 3.11
# or in `yield from`, by asyncio)
@pytest.mark.parametrize("kind", ["tuple", "none", "exception", "stop", "text"])
@pytest.mark.parametrize("step", [next, lambda iterator: iterator.send(None)])
async def test_iterating_an_await_by_hand_gives_the_value_exactly(kind, step):
    promise, future = native.make_ChosenPromise()
    promise.set(kind)
    while not future.done():
        await asyncio.sleep(0)
    with pytest.raises(StopIteration) as stopped:
        step(future.__await__())
    assert stopped.value.value is future.result()


# Fails if a cycle of a failed future and its exception's traceback is not collected
async def test_a_failed_future_in_a_cycle_with_its_traceback_is_collected():
    async def fail():
        promise, future = native.make_Promise()
        promise.fail("cycle")
        try:
            await future
        except RuntimeError as error:
            return weakref.ref(future), error.__traceback__ is not None

    reference, has_traceback = await fail()
    assert has_traceback
    await asyncio.sleep(0)  # the drain that has resumed us refers to the future
    gc.collect()
    assert reference() is None
