"""scope: nothing native that was started in a block outlives it."""

import asyncio
import contextvars
import gc
import threading

import native
import pytest
from waiting import collect, until

import aiobridge
from aiobridge import CloseReason, Fate


async def test_pending_operations_are_cancelled_and_waited_for():
    calls = []
    async with aiobridge.scope():
        promise, future = aiobridge.make_promise()

        def abort(reason):
            calls.append(reason)
            calls.append(promise.set_result(1))

        promise.on_cancel(abort)
    assert calls == [CloseReason.SCOPE_EXIT, Fate.CLOSED]
    assert future.cancelled()


async def test_the_pools_function_is_stopped_and_waited_for():
    recorder = native.Recorder()
    async with aiobridge.scope():
        running = native.run_until_stopped(recorder)
        await until(lambda: recorder.records)
    assert recorder.records[-1] == "stopped: scope_exit"
    assert running.cancelled()


async def test_what_is_completed_is_not_touched():
    async with aiobridge.scope():
        assert await native.add(1, 2) == 3
        resolved = native.resolved(9)
        future = native.add(3, 4)
        await asyncio.wait([future])
        promise, other = aiobridge.make_promise()
        promise.set_result(5)
    assert (await future, await other, await resolved) == (7, 5, 9)


@pytest.mark.parametrize("sdk", ["joining_sdk", "locking_sdk"])
async def test_streams_are_closed_and_their_hooks_waited_for(sdk):
    recorder = native.Recorder()
    async with aiobridge.scope():
        stream = getattr(native, sdk)(recorder)
        assert await anext(stream) == 0
    assert recorder.records[-1] == "scope_exit on aiobridge-hooks"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_without_a_hook_is_waited_for_until_its_last_writer_goes():
    seen = threading.Event()

    def produce(writer):
        while writer.push(1) is not Fate.CLOSED:
            pass
        seen.set()

    async with aiobridge.scope():
        writer, stream = aiobridge.make_stream(overflow="drop_oldest")
        threading.Thread(target=produce, args=(writer,)).start()
        del writer
        await anext(stream)
    assert seen.is_set()


async def test_a_stream_that_its_producer_has_ended_is_not_waited_for():
    async with aiobridge.scope(timeout=0):
        writer, stream = aiobridge.make_stream()
        writer.push(1)
        writer.close()
        assert await collect(stream) == [1]


async def test_tasks_that_wait_see_the_end_and_the_cancellation():
    async with aiobridge.scope(name="of the feed"):
        writer, stream = aiobridge.make_stream()
        stream.on_close(lambda reason: None)
        promise, future = aiobridge.make_promise()
        promise.on_cancel(lambda reason, setter=promise.set_result: setter())
        del promise
        started = asyncio.Event()

        async def consume():
            started.set()
            return await collect(stream)

        async def wait():
            try:
                await future
            except asyncio.CancelledError as error:
                told.extend(error.args)
                raise

        told = []
        tasks = [asyncio.create_task(consume()), asyncio.create_task(wait())]
        await started.wait()
        writer.push(1)
        await until(lambda: stream.stats().delivered)
    consumed, waited = await asyncio.gather(*tasks, return_exceptions=True)
    assert consumed == [1]
    assert isinstance(waited, asyncio.CancelledError)
    assert told == ["<aiobridge.Scope of the feed> was left"]


async def test_callbacks_are_closed_and_their_tasks_cancelled():
    started, ended = asyncio.Event(), []

    async def handler(number):
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    async with aiobridge.scope():
        caller = native.Caller(handler)
        recorder = native.Recorder()
        caller.ask_and_record(7, recorder)
        await started.wait()
    assert ended == [7]
    assert caller.reason == "scope_exit"
    assert caller.fire_in_thread(8) == "closed"
    await until(lambda: len(recorder.records) > 2)
    assert recorder.records[:3] == ["asked", "raised", "asyncio.exceptions.CancelledError"]


async def test_a_callback_without_calls_is_not_waited_for():
    calls = []
    async with aiobridge.scope(timeout=0):
        caller = native.Caller(calls.append)
        assert caller.fire_in_thread(1) == "accepted"
    assert caller.reason == "scope_exit"
    # Posted before the end, and not made after it.
    assert await native.add(1) == 2
    assert calls == []


async def test_calls_that_wait_for_a_place_are_refused():
    async def handler(number):
        started.set()
        await asyncio.sleep(60)

    started = asyncio.Event()
    async with aiobridge.scope():
        caller = native.Caller(handler)
        caller.limit(1)
        recorder, waiting = native.Recorder(), native.Recorder()
        caller.ask_and_record(1, recorder)
        await started.wait()
        caller.ask_and_record(2, waiting)
        await until(lambda: waiting.records)
        assert await native.add(1) == 2  # so its call is at hand
    await until(lambda: len(waiting.records) > 2)
    assert waiting.records[:3] == ["asked", "refused", "closed"]
    assert waiting.records[3] == "scope_exit"


async def test_what_is_undelivered_is_handed_over_before_the_end():
    """Also where that is all there is left to do: the hook thread is busy elsewhere before."""
    busy, release = threading.Event(), threading.Event()
    _promise, future = aiobridge.make_promise()
    _promise.on_cancel(lambda reason: (busy.set(), release.wait(20)))
    future.cancel()
    await until(busy.is_set)
    async with aiobridge.scope(timeout=20):
        writer, stream = native.make_tracked_stream()
        for number in range(100):
            writer.push(number)
        del stream
        gc.collect()
        writer.drop()
        assert native.Tracked.live == 100
        threading.Timer(0.05, release.set).start()
    assert native.Tracked.live == 0


async def test_the_last_handle_of_a_callback_may_go_while_a_task_runs_a_call():
    started, ended = asyncio.Event(), []

    async def handler(number):
        started.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(number)

    async with aiobridge.scope():
        caller = native.Caller(handler)
        assert caller.fire_in_thread(1) == "accepted"
        await started.wait()
        caller.drop_in_thread()
        assert await native.add(1) == 2  # after the end of the handle
    assert ended == [1]


async def test_what_does_not_let_go_is_named_with_its_place():
    release = threading.Event()
    try:
        with pytest.raises(aiobridge.ScopeTimeout) as caught:
            async with aiobridge.scope(timeout=0.01, name="of the feed"):
                promise, _future = aiobridge.make_promise()
                writer, _stream = aiobridge.make_stream()
                _writer, slow = aiobridge.make_stream()
                slow.on_close(lambda reason: release.wait(20))
    finally:
        release.set()
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, aiobridge.BridgeError)
    assert "of the feed" in str(caught.value)
    stream_with_hook, stream, operation = caught.value.left
    assert "test_scope.py:" in operation
    assert operation.startswith("an operation made at")
    assert operation.endswith("whose promise was neither fulfilled nor dropped")
    assert stream.endswith("whose last writer was not dropped")
    assert stream_with_hook.endswith("whose on_close hook has not returned")
    assert all(text in str(caught.value) for text in caught.value.left)
    assert promise.close_reason() == writer.close_reason() == "scope_exit"


async def test_an_on_cancel_hook_that_does_not_return_is_named():
    release = threading.Event()
    try:
        with pytest.raises(aiobridge.ScopeTimeout, match="whose on_cancel hook has not returned"):
            async with aiobridge.scope(timeout=0.5):  # enough for the hook to begin
                promise, _future = aiobridge.make_promise()
                promise.on_cancel(lambda reason: (promise.set_result(), release.wait(20)))
    finally:
        release.set()


async def test_a_task_of_a_callback_that_does_not_end_is_named():
    release = asyncio.Event()

    async def stubborn(number):
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    started = asyncio.Event()
    with pytest.raises(aiobridge.ScopeTimeout, match=r"the callback <function .*stubborn.*still run by <Task"):
        async with aiobridge.scope(timeout=0.01):
            caller = native.Caller(stubborn)
            caller.fire_in_thread(1)
            await started.wait()
    release.set()


async def test_an_exception_of_the_block_goes_on_with_a_note():
    with pytest.raises(LookupError) as caught:
        async with aiobridge.scope(timeout=0.001):
            promise, _future = aiobridge.make_promise()
            raise LookupError
    assert "whose promise was neither fulfilled nor dropped" in caught.value.__notes__[0]
    assert promise.close_reason() == "scope_exit"


async def test_a_cancellation_of_the_block_goes_on_and_the_handler_is_told():
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    promises = []
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.01), aiobridge.scope(timeout=0.01):
            promise, future = aiobridge.make_promise()
            promises.append(promise)
            await future
    assert not isinstance(caught.value, aiobridge.ScopeTimeout)
    assert [type(error) for error in told] == [aiobridge.ScopeTimeout]


async def test_a_cancellation_while_it_waits_comes_after_the_wait():
    hook_runs, release = threading.Event(), threading.Event()

    async def scoped():
        async with aiobridge.scope(timeout=None):
            promise, _future = aiobridge.make_promise()
            promise.on_cancel(lambda reason: (hook_runs.set(), release.wait(20), promise.set_result()))

    task = asyncio.create_task(scoped())
    await until(hook_runs.is_set)
    for _ in range(3):
        task.cancel()
        assert await native.add(1) == 2
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_inside_a_task_group():
    calls = []

    async def job():
        promise, future = aiobridge.make_promise()
        promise.on_cancel(calls.append)
        await future

    async def failing():
        await native.add(1)
        raise LookupError

    with pytest.raises(ExceptionGroup) as caught:
        async with aiobridge.scope(), asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(job())
            group.create_task(failing())
    assert caught.group_contains(LookupError)
    assert calls == ["cancelled"] * 3


async def test_scopes_nest():
    async with aiobridge.scope() as outer:
        first, _ = aiobridge.make_promise()
        first.on_cancel(lambda reason, setter=first.set_result: setter())
        async with aiobridge.scope():
            second, _other = aiobridge.make_promise()
            second.on_cancel(lambda reason, setter=second.set_result: setter())
        assert second.close_reason() == "scope_exit"
        assert first.close_reason() == "open"
        third, _another = aiobridge.make_promise()
        third.on_cancel(lambda reason, setter=third.set_result: setter())
        assert "open" in repr(outer)
    assert first.close_reason() == "scope_exit"
    assert third.close_reason() == "scope_exit"
    assert "left" in repr(outer)
    promise, _future = aiobridge.make_promise()
    assert promise.close_reason() == "open"


async def test_a_task_that_outlives_its_scope_can_start_nothing_native():
    left = asyncio.Event()

    async def late():
        await left.wait()
        for make in (
            aiobridge.make_promise,
            aiobridge.make_stream,
            lambda: native.add(1),
            lambda: native.Caller(lambda number: None),
        ):
            with pytest.raises(aiobridge.ClosedError, match="of the feed> was left"):
                make()
        await stream.aclose()  # that is no start

    async with aiobridge.scope(name="of the feed"):
        task = asyncio.create_task(late())
        writer, stream = aiobridge.make_stream()
        stream.on_close(lambda reason: None)
    left.set()
    await task
    del writer


async def test_what_was_dropped_inside_is_waited_for_too():
    release, calls = threading.Event(), []
    async with aiobridge.scope(timeout=20):
        promise, future = aiobridge.make_promise()
        promise.on_cancel(lambda reason: (promise.set_result(), release.wait(20), calls.append(reason)))
        del future
        gc.collect()
        threading.Timer(0.001, release.set).start()
    assert calls == ["abandoned"]


async def test_many_operations_leave_nothing_behind():
    async with aiobridge.scope():
        for _ in range(20):
            results = await asyncio.gather(*(native.add(number) for number in range(100)))
            assert results == list(range(1, 101))
    await until(lambda: aiobridge.stats().scopes == 0)


async def test_it_is_entered_once_and_checks_its_timeout():
    scope = aiobridge.scope()
    assert "not entered" in repr(scope)
    async with scope:
        pass
    with pytest.raises(RuntimeError, match="was entered before"):
        await scope.__aenter__()
    for wrong in (-1, float("nan")):
        with pytest.raises(ValueError, match="timeout is"):
            aiobridge.scope(timeout=wrong)


async def test_left_in_another_context_than_it_was_entered_in():
    """As fixtures are."""
    scope = aiobridge.scope()
    context = contextvars.copy_context()
    await asyncio.get_running_loop().create_task(scope.__aenter__(), context=context)
    promise, _future = context.run(aiobridge.make_promise)
    promise.on_cancel(lambda reason, setter=promise.set_result: setter())
    await scope.__aexit__(None, None, None)
    assert promise.close_reason() == "scope_exit"


async def test_a_loop_in_another_thread_with_the_context():
    """Its tasks are cancelled by itself."""
    started, threads = threading.Event(), []

    async def handler(number):
        try:
            started.set()
            await asyncio.sleep(60)
        finally:
            threads.append(threading.get_ident())

    async def other():
        threads.append(threading.get_ident())
        caller = native.Caller(handler)
        caller.fire_in_thread(1)
        await until(lambda: len(threads) > 1)

    async with aiobridge.scope():
        running = asyncio.create_task(asyncio.to_thread(asyncio.run, other(), debug=True))
        await until(started.is_set)
    await running
    assert len(set(threads)) == 1


async def test_operations_made_on_other_threads_with_the_context():
    async with aiobridge.scope():
        promise, future = await asyncio.to_thread(aiobridge.make_promise)
        promise.on_cancel(lambda reason, setter=promise.set_result: setter())
    assert future.cancelled()


async def test_ends_that_race_with_the_end_of_the_block():
    """Whoever closes the last open end, before, while or after the scope looks: it is told."""
    fates = []
    for round_ in range(200):
        barrier = threading.Barrier(2)

        def complete(promise, barrier=barrier):
            barrier.wait()
            fates.append(promise.set_result(1))

        async with aiobridge.scope(timeout=20):
            promise, _future = aiobridge.make_promise()
            thread = threading.Thread(target=complete, args=(promise,))
            thread.start()
            del promise
            barrier.wait()
            if round_ % 2:
                await asyncio.sleep(0)
        thread.join()
        # What is accepted, and not yet delivered, can still be cancelled.
        assert fates.pop() == "accepted" or _future.cancelled()
