"""aiobridge.Future: what asyncio asks of a future, and exactness of what comes back."""

import asyncio
import contextvars
import gc
import signal
import threading
import time
import weakref

import native
import pytest

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
    turns = 0

    def count():
        nonlocal turns
        turns += 1

    future = native.resolved(7)
    asyncio.get_running_loop().call_soon(count)
    assert await future == 7
    assert await future == 7
    assert turns == 0


async def test_values_arrive_exactly():
    async def value(kind):
        promise, future = native.make_ChosenPromise()
        promise.set_from_thread(kind)
        return await future

    assert await value("tuple") == (1, 2)
    assert await value("none") is None
    assert await value("text") == "text"
    exception = await value("exception")
    assert type(exception) is ValueError
    assert exception.args == ("a value, not an error",)
    assert type(await value("stop")) is StopIteration


@pytest.mark.parametrize("kind", ["tuple", "none", "exception", "stop", "text"])
async def test_values_of_finished_futures_arrive_exactly(kind):
    promise, future = native.make_ChosenPromise()
    promise.set(kind)
    while not future.done():
        await asyncio.sleep(0)
    assert (await future) is future.result()


@pytest.mark.parametrize(
    ("kind", "error"),
    [("throw", IndexError), ("raise", KeyError), ("raise stop", RuntimeError), ("null", SystemError)],
)
async def test_an_error_of_a_conversion_goes_to_its_own_future(kind, error):
    bad_promise, bad = native.make_ChosenPromise()
    good_promise, good = native.make_ChosenPromise()
    bad_promise.set(kind)
    good_promise.set("good")
    assert await good == "good"
    with pytest.raises(error):
        await bad


async def test_stop_iteration_of_a_conversion_is_the_cause_of_a_runtime_error():
    promise, future = native.make_ChosenPromise()
    promise.set("raise stop")
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await future
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_one_native_exception_shared_by_many_futures():
    futures = native.fail_all(10)
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(error) for error in results] == [IndexError] * 10
    assert len({id(error) for error in results}) == 10


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


async def test_dropping_a_future_that_nobody_awaits_abandons_the_operation():
    recorder = native.Recorder()
    promise, future = native.make_Promise()
    promise.on_cancel(recorder)
    del future
    gc.collect()
    assert recorder.wait(1)
    assert recorder.records[0] == "abandoned on aiobridge-hooks"
    assert promise.reason == "abandoned"


async def test_a_future_that_is_awaited_lives_until_it_completes():
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


async def test_cancelled_by_the_native_side():
    with pytest.raises(asyncio.CancelledError):
        await native.cancelled_by_native()


async def test_a_promise_that_is_dropped_breaks_and_says_where_it_was_made():
    promise, future = native.make_Promise()
    promise.drop_in_thread()
    with pytest.raises(aiobridge.BrokenPromiseError, match=r"made at .*operations\.cpp:\d+"):
        await future


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


async def test_a_future_whose_callbacks_were_removed_is_abandoned_when_dropped():
    promise, future = native.make_Promise()
    await asyncio.wait([future], timeout=0)
    assert promise.reason == "open"
    del future
    gc.collect()
    assert promise.reason == "abandoned"


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


async def test_done_callbacks_run_in_order_in_their_context():
    variable = contextvars.ContextVar("variable", default="unset")
    order = []
    promise, future = native.make_Promise()

    def callback(name):
        return lambda done: order.append((name, variable.get(), done is future))

    context = contextvars.copy_context()
    context.run(variable.set, "inner")
    future.add_done_callback(callback("first"), context=context)
    removed = callback("removed")
    future.add_done_callback(removed)
    variable.set("outer")
    future.add_done_callback(callback("second"))
    assert future.remove_done_callback(removed) == 1
    assert future.remove_done_callback(removed) == 0
    promise.set_from_thread(1)
    await future
    future.add_done_callback(callback("late"))
    await asyncio.sleep(0)
    assert order == [("first", "inner", True), ("second", "outer", True), ("late", "outer", True)]


async def test_the_first_callback_can_be_removed_and_the_others_stay():
    called = []
    promise, future = native.make_Promise()
    first = lambda done: called.append("first")  # noqa: E731
    future.add_done_callback(first)
    future.add_done_callback(lambda done: called.append("second"))
    assert future.remove_done_callback(first) == 1
    promise.set(1)
    await future
    await asyncio.sleep(0)
    assert called == ["second"]


async def test_a_done_callback_added_before_a_task_runs_before_the_task():
    order = []
    promise, future = native.make_Promise()
    future.add_done_callback(lambda done: order.append("callback"))

    async def wait():
        await future
        order.append("task")

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    promise.set_from_thread(1)
    await task
    assert order == ["callback", "task"]


async def test_a_done_callback_that_raises_is_reported_once_and_the_others_run():
    contexts, called = [], []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    promise, future = native.make_Promise()
    future.add_done_callback(lambda done: 1 / 0)
    future.add_done_callback(called.append)
    promise.set(1)
    await future
    await asyncio.sleep(0)
    assert called == [future]
    assert [type(context["exception"]) for context in contexts] == [ZeroDivisionError]


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


async def test_two_tasks_await_one_future():
    promise, future = native.make_Promise()

    async def wait():
        return await future

    tasks = [asyncio.create_task(wait()) for _ in range(2)]
    await asyncio.sleep(0)
    promise.set_from_thread(9)
    assert await asyncio.gather(*tasks) == [9, 9]


async def test_a_result_that_has_arrived_is_not_taken_away_by_a_cancel():
    """The task has it before anything else can run: there is no gap between delivery and resumption."""
    received = []
    promise, future = native.make_Promise()

    async def wait():
        received.append(await future)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    future.add_done_callback(lambda done: task.cancel())
    promise.set_from_thread(5)
    await asyncio.wait([task])
    assert received == [5]


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


async def test_a_pending_future_of_another_running_loop_is_refused_and_that_loop_goes_on():
    ready, finish = threading.Event(), threading.Event()
    theirs = {}

    async def elsewhere():
        theirs["promise"], theirs["future"] = native.make_Promise()
        ready.set()
        return await theirs["future"]

    running = asyncio.get_running_loop().run_in_executor(None, asyncio.run, elsewhere())
    await asyncio.to_thread(ready.wait)
    with pytest.raises(RuntimeError, match="belongs to the loop .* and is awaited in"):
        await theirs["future"]
    finish.set()
    theirs["promise"].set(11)
    assert await running == 11


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


# Fails if callbacks after the first run in another order
async def test_three_done_callbacks_run_in_the_order_in_which_they_were_added():
    order = []
    promise, future = native.make_Promise()
    for number in range(4):
        future.add_done_callback(lambda done, number=number: order.append(number))
    promise.set_from_thread(1)
    await future
    await asyncio.sleep(0)
    assert order == [0, 1, 2, 3]


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
