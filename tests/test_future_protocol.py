"""aiobridge.Future: what asyncio, and those who look into its futures, ask of one."""

import asyncio
import contextvars
import copy
import functools
import gc
import pickle
import sys
import traceback
import warnings
import weakref

import native
import pytest

import aiobridge
from aiobridge import _core


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


async def failed(text="lost"):
    promise, future = native.make_Promise()
    promise.fail(text)
    while not future.done():
        await asyncio.sleep(0)
    return future


async def test_the_attributes_that_asyncio_reads():
    loop = asyncio.get_running_loop()
    promise, future = native.make_Promise()
    assert (future._state, future._loop, future._callbacks) == ("PENDING", loop, None)
    assert (future._result, future._exception, future._cancel_message, future._source_traceback) == (None,) * 4
    context = contextvars.copy_context()
    for callback in (print, repr):
        future.add_done_callback(callback, context=context)
    assert future._callbacks == [(print, context), (repr, context)]
    for callback in (print, repr):
        future.remove_done_callback(callback)
    promise.set(1)
    assert await future == 1
    assert (future._state, future._callbacks) == ("FINISHED", None)
    assert (future._result, future._exception, future._log_traceback) == (1, None, False)

    lost = await failed()
    assert (lost._state, lost._result, lost._log_traceback) == ("FINISHED", None, True)
    assert str(lost._exception) == "lost"
    assert lost._log_traceback  # looking at it is not retrieving it
    assert lost.exception() is lost._exception
    assert not lost._log_traceback

    _promise, cancelled = native.make_Promise()
    cancelled.cancel("not needed")
    assert (cancelled._state, cancelled._cancel_message) == ("CANCELLED", "not needed")
    assert (cancelled._result, cancelled._exception) == (None, None)


async def test_attributes_that_are_set_and_not_deleted():
    future = await failed()
    with pytest.raises(ValueError, match="_log_traceback can only be set to False"):
        future._log_traceback = True
    future._log_traceback = False
    assert not future._log_traceback
    for name in ("_log_traceback", "_asyncio_future_blocking", "_cancel_message"):
        with pytest.raises(AttributeError, match=name):
            delattr(future, name)
    for name in ("_result", "_exception", "_callbacks", "_state", "_loop", "_source_traceback"):
        with pytest.raises(AttributeError):
            setattr(future, name, None)


@pytest.mark.parametrize(("message", "arguments"), [("because", ("because",)), (None, ()), ((1, 2), ((1, 2),))])
async def test_the_message_of_a_cancel_reaches_who_awaits(message, arguments):
    _promise, future = native.make_Promise()
    future._cancel_message = "an older one"
    assert future.cancel(message)
    for look in (future.result, future.exception):
        with pytest.raises(asyncio.CancelledError) as caught:
            look()
        assert caught.value.args == arguments
    with pytest.raises(asyncio.CancelledError) as caught:
        await future
    assert caught.value.args == arguments
    assert future._make_cancelled_error().args == arguments
    future._cancel_message = "a newer one"
    with pytest.raises(asyncio.CancelledError, match="a newer one"):
        await future


async def test_an_exception_is_reported_once_though_the_handler_keeps_the_future():
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    future = await failed()
    del future
    gc.collect()
    assert len(contexts) == 1
    assert contexts[0]["future"].done()
    assert "source_traceback" not in contexts[0]
    contexts[0].clear()
    gc.collect()
    assert len(contexts) == 1


async def test_an_exception_whose_report_was_switched_off_is_not_reported():
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    future = await failed()
    future._log_traceback = False
    del future
    gc.collect()
    assert contexts == []


async def one_drain():
    """Drains look whether the loop is in debug mode."""
    promise, future = native.make_Promise()
    promise.set(1)
    await future


async def test_debug_mode_tells_where_a_future_was_made():
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    await one_drain()
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    promise, future = native.make_Promise()
    made = future._source_traceback[-1]
    assert (made.filename, made.line) == (__file__, "promise, future = native.make_Promise()")
    assert repr(future).endswith(f", created at {__file__}:{made.lineno}>")
    promise.fail("lost")
    while not future.done():
        await asyncio.sleep(0)
    stack = future._source_traceback
    del future
    gc.collect()
    assert [context["source_traceback"] for context in contexts] == [stack]
    loop.set_debug(False)
    await one_drain()
    assert native.make_Promise()[1]._source_traceback is None


def test_debug_mode_tells_where_a_future_of_no_loop_was_awaited():
    promise, future = native.make_Promise()
    assert future._source_traceback is None

    async def main():
        promise.set_from_thread(1)
        return await future

    assert asyncio.run(main(), debug=True) == 1
    # If the value was faster than the await, there was no time at which the future waited in a loop.
    if future._source_traceback is not None:
        assert future._source_traceback[-1].line == "return await future"


async def test_an_exception_that_is_raised_often_keeps_its_first_traceback():
    future = await failed()

    async def depth():
        try:
            await future
        except RuntimeError as error:
            return len(traceback.extract_tb(error.__traceback__))

    assert len({await depth() for _ in range(5)}) == 1


async def test_shield_keeps_an_operation_from_the_cancel_of_who_waits():
    promise, future = native.make_Promise()

    async def wait():
        return await asyncio.shield(future)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert promise.reason == "open"
    promise.set_from_thread(2)
    assert await future == 2


async def test_cancelling_a_gather_cancels_every_operation():
    pairs = [native.make_Promise() for _ in range(3)]
    gathered = asyncio.gather(*(future for _promise, future in pairs))
    gathered.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await gathered
    assert [promise.reason for promise, _future in pairs] == ["cancelled"] * 3


async def test_a_gather_raises_the_first_error_and_lets_the_others_go_on():
    bad_promise, bad = native.make_Promise()
    promise, future = native.make_Promise()
    gathered = asyncio.gather(bad, future)
    bad_promise.fail("first")
    with pytest.raises(RuntimeError, match="first"):
        await gathered
    assert promise.reason == "open"
    promise.set(1)
    assert await future == 1


async def test_wait_returns_with_the_first_and_wait_for_cancels_at_its_timeout():
    promise, future = native.make_Promise()
    first = native.add(1)
    done, pending = await asyncio.wait([future, first], return_when=asyncio.FIRST_COMPLETED)
    assert (done, pending) == ({first}, {future})
    assert promise.reason == "open"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.01)
    assert promise.reason == "cancelled"


async def test_as_completed_gives_results_in_the_order_of_completion():
    pairs = [native.make_Promise() for _ in range(3)]
    order = iter([2, 0, 1])
    pairs[next(order)][0].set(20)
    results = []
    for each in asyncio.as_completed([future for _promise, future in pairs]):
        results.append(await each)
        if (number := next(order, None)) is not None:
            pairs[number][0].set(number)
    assert results == [20, 0, 1]


async def test_a_task_group_that_fails_cancels_the_operations_of_its_tasks():
    promise, future = native.make_Promise()

    async def wait(awaitable):
        await awaitable

    async def run_both():
        async with asyncio.TaskGroup() as group:
            group.create_task(wait(future))
            group.create_task(wait(native.fail_with("runtime_error")))

    with pytest.raises(ExceptionGroup) as caught:
        await run_both()
    assert [str(error) for error in caught.value.exceptions] == ["it failed"]
    assert promise.reason == "cancelled"


@pytest.mark.parametrize("kind", ["result", "exception", "message", "callback"])
async def test_a_cycle_through_a_future_is_collected(kind):
    future = _core._FutureForTests()
    if kind == "result":
        future.set_result([future])
    elif kind == "exception":
        future.set_exception(ValueError(future))
        future.exception()
    elif kind == "message":
        future.cancel([future])
    else:
        future.add_done_callback(functools.partial(print, future))
        assert future.remove_done_callback(print) == 0
        future.cancel()
        await asyncio.sleep(0)
    reference = weakref.ref(future)
    del future
    gc.collect()
    assert reference() is None


async def test_weak_collections_let_go_of_a_future():
    promise, future = native.make_Promise()
    known, names = weakref.WeakSet([future]), weakref.WeakKeyDictionary({future: "its name"})
    assert names[future] == "its name"
    promise.set(1)
    assert await future == 1
    del future
    await asyncio.sleep(0)  # the drain that has resumed us refers to the future
    gc.collect()
    assert (len(known), len(names)) == (0, 0)


async def test_what_is_thrown_into_an_await_is_looked_at():
    def throw(*arguments):
        with warnings.catch_warnings():
            # Python 3.12 and later say so to every throw() with more than an exception.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            native.make_Promise()[1].__await__().throw(*arguments)

    error = KeyError("thrown in")
    for arguments in [(error,), (KeyError, error), (KeyError, error, None), (KeyError, "thrown in"), (KeyError,)]:
        with pytest.raises(KeyError) as caught:
            throw(*arguments)
        assert (caught.value is error) == (error in arguments)
    for arguments in [(), (KeyError, error, None, None), (list,), (KeyError, error, 32), (error, error)]:
        with pytest.raises(TypeError, match=r"throw\(\)"):
            throw(*arguments)
    with pytest.raises(ValueError):  # noqa: PT011 (it has no text)
        throw(ValueError, None, None)
    try:
        raise KeyError
    except KeyError as caught:
        with pytest.raises(LookupError) as thrown:
            throw(LookupError, None, caught.__traceback__)
        assert thrown.traceback[-1].name == "test_what_is_thrown_into_an_await_is_looked_at"


async def test_what_is_thrown_wrongly_does_not_end_the_await():
    promise, future = native.make_Promise()
    step = future.__await__()
    assert step.send(None) is future
    with pytest.raises(TypeError, match="throw"):
        step.throw(list)
    promise.set(1)
    while not future.done():
        await asyncio.sleep(0)
    with pytest.raises(StopIteration):
        step.send(None)


def test_a_future_of_a_loop_that_rests_can_be_iterated_by_hand(new_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:

        async def make():
            return native.make_Promise()

        promise, future = runner.run(make())
        step = iter(future)
        assert next(step) is future
        assert future._asyncio_future_blocking
        promise.set(1)

        async def finish():
            while not future.done():
                await asyncio.sleep(0)

        runner.run(finish())
        with pytest.raises(StopIteration) as stopped:
            next(step)
        assert stopped.value.value == 1


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
async def test_a_future_is_not_copied_and_says_what_to_do(how):
    with pytest.raises(
        TypeError,
        match=r"^aiobridge.Future cannot be pickled or copied: it belongs to a loop of this process; "
        "send what comes out of it instead$",
    ):
        how(native.resolved(1))


def test_nobody_derives_from_a_future():
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("Mine", (aiobridge.Future,), {})


async def test_repr_of_what_no_operation_completes_is_asyncios():
    _writer, stream = native.make_stream()
    task = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert "wait_for=<Future pending cb=[" in repr(task)
    task.cancel()


async def test_a_pending_future_is_small():
    _promise, future = native.make_Promise()
    assert sys.getsizeof(future) <= 176
