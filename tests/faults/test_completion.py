"""How an operation ends: nobody waits, nobody looks, two wait, or it has ended already."""

import asyncio
import gc
import weakref

import native
import pytest
from waiting import Turns, posts_have_run

import aiobridge


async def test_40_dropping_a_future_that_nobody_awaits_abandons_the_operation_silently():
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    recorder = native.Recorder()
    promise, future = native.make_Promise()
    promise.on_cancel(recorder)
    del future
    gc.collect()
    assert recorder.wait(1)
    assert recorder.records[0] == "abandoned on aiobridge-hooks"
    assert promise.reason == "abandoned"
    await posts_have_run()  # what was to be told has been
    assert contexts == []


async def test_40_a_future_that_is_awaited_lives_until_it_completes():
    promise, future = native.make_Promise()
    results = []

    async def wait(awaitable):
        results.append(await awaitable)

    task = weakref.ref(asyncio.create_task(wait(future)))
    await asyncio.sleep(0)
    del future
    gc.collect()
    assert task() is not None
    promise.set_from_thread(3)
    await task()
    assert results == [3]


async def test_41_an_exception_that_nobody_retrieves_is_reported_once():
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


async def test_42_two_tasks_await_one_future():
    promise, future = native.make_Promise()

    async def wait():
        return await future

    tasks = [asyncio.create_task(wait()) for _ in range(2)]
    await asyncio.sleep(0)
    promise.set_from_thread(9)
    assert await asyncio.gather(*tasks) == [9, 9]


needs_eager_tasks = pytest.mark.skipif(
    not hasattr(asyncio, "eager_task_factory"), reason="eager tasks came with Python 3.12"
)


def eager_task(loop, coroutine, *, eager_start=True, **keywords):
    """asyncio's factory, which knows `eager_start` since a patch release of 3.13; uvloop gives it to any."""
    return asyncio.eager_task_factory(loop, coroutine, **keywords)


@needs_eager_tasks
async def test_51_eager_tasks_complete_at_once_with_what_is_ready():
    asyncio.get_running_loop().set_task_factory(eager_task)

    async def wait(future):
        return await future

    ready = asyncio.create_task(wait(native.resolved(3)))
    assert ready.done()
    assert ready.result() == 3
    assert await asyncio.create_task(wait(native.add(1))) == 2


@needs_eager_tasks
async def test_51_an_eager_task_that_waits_is_cancelled_with_its_operation():
    asyncio.get_running_loop().set_task_factory(eager_task)
    promise, future = native.make_Promise()

    async def wait():
        await future

    task = asyncio.create_task(wait())
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert promise.reason == "cancelled"


async def test_40_a_future_that_is_awaited_and_cancelled_lets_go_of_its_task():
    """What was kept alive for the completion ends with the cancel too."""
    promise, future = native.make_Promise()

    async def wait(awaitable):
        await awaitable

    task = asyncio.create_task(wait(future))
    await asyncio.sleep(0)
    gone = weakref.ref(task), weakref.ref(future)
    task.cancel()
    del future
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)  # what has resumed us refers to the task
    gc.collect()
    assert [reference() for reference in gone] == [None, None]
    assert promise.reason == "cancelled"


@pytest.mark.parametrize("how", ["broken", "converted", "failed in Python"])
async def test_41_every_kind_of_error_that_nobody_retrieves_is_reported_once(how):
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    if how == "failed in Python":
        promise, future = aiobridge.make_promise()
        promise.set_exception(KeyError("lost"))
    elif how == "converted":
        promise, future = native.make_ChosenPromise()
        promise.set("raise")
    else:
        promise, future = native.make_Promise()
        promise.drop_in_thread()
    while not future.done():
        await asyncio.sleep(0)
    del future
    gc.collect()
    gc.collect()
    assert [context["message"] for context in contexts] == ["aiobridge.Future exception was never retrieved"]
    assert isinstance(contexts[0]["exception"], aiobridge.BrokenPromiseError if how == "broken" else KeyError)


async def test_42_a_shield_and_a_task_await_one_future():
    promise, future = native.make_Promise()

    async def wait(awaitable):
        return await awaitable

    tasks = [asyncio.create_task(wait(asyncio.shield(future))), asyncio.create_task(wait(future))]
    await asyncio.sleep(0)
    promise.set_from_thread(9)
    assert await asyncio.gather(*tasks) == [9, 9]


async def test_42_a_cancelled_shield_leaves_the_future_to_the_other_task():
    promise, future = native.make_Promise()

    async def wait(awaitable):
        return await awaitable

    shielded = asyncio.create_task(wait(asyncio.shield(future)))
    other = asyncio.create_task(wait(future))
    await asyncio.sleep(0)
    shielded.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shielded
    assert promise.reason == "open"
    promise.set_from_thread(9)
    assert await other == 9


@needs_eager_tasks
async def test_51_what_is_complete_is_awaited_without_a_turn_of_the_loop_by_an_eager_task():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(eager_task)
    writer, stream = native.make_stream()
    writer.push(1)
    writer.push(2)
    writer.close()

    async def wait():
        return await native.resolved(3), [event async for event in stream]

    turns = Turns()
    task = asyncio.create_task(wait())
    assert task.done()
    assert task.result() == (3, [1, 2])
    assert turns.count == 0
