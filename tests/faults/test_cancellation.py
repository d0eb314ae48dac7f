"""A cancel, or a timeout, at the moment at which a result or an event arrives."""

import asyncio

import native
import pytest
from sizes import RACE_PATIENCE, RACE_ROUNDS
from waiting import collect, hooks_have_run, posts_have_run, until


async def take(stream):
    return await anext(stream)


@pytest.mark.timeout(RACE_PATIENCE)
@pytest.mark.parametrize("turns", [0, 1])
async def test_19_a_cancel_and_a_result_at_the_same_moment_have_one_outcome_and_the_value_ends_once(turns):
    """Before the result can be delivered (no turn of the loop in between), and about when it is."""
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    racer = native.Racer()
    before = native.Tracked.live
    fates = {"accepted": 0, "closed": 0}
    values = cancels = 0
    for number in range(RACE_ROUNDS):
        future = racer.arm(number, number % 50 * 10)
        racer.go()
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = future.cancel()
        fate = racer.wait()
        fates[fate] += 1
        try:
            value = await future
        except asyncio.CancelledError:
            assert cancelled
            cancels += 1
        else:
            assert not cancelled
            assert (fate, value.number) == ("accepted", number)
            values += 1
            del value
    assert values + cancels == sum(fates.values()) == RACE_ROUNDS
    assert values <= fates["accepted"]
    if not turns:
        assert values == 0
    # A value that came too late for its Future ends when its delivery comes, and the native side was told exactly if it
    # came too late for the operation.
    del future
    await until(lambda: native.Tracked.live == before)
    await hooks_have_run()
    assert racer.cancels == fates["closed"]
    assert contexts == []


async def test_20_a_result_that_has_arrived_is_not_taken_away_by_a_cancel():
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


async def test_20_a_cancelled_anext_loses_nothing():
    writer, stream = native.make_stream()
    for number in range(200):
        waiting = asyncio.create_task(take(stream))
        await asyncio.sleep(0)
        writer.push(number)
        waiting.cancel()
        try:
            received = await waiting
        except asyncio.CancelledError:
            received = await anext(stream)
        assert received == number


async def test_20_a_cancelled_batch_loses_nothing():
    writer, stream = native.make_stream()
    batches = stream.batches(100, max_delay=1000)
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    writer.push(1)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert stream.qsize() == 1
    assert stream.stats().delivered == 0
    writer.push(2)
    writer.close()
    assert await collect(batches) == [[1, 2]]


async def test_20_cancelling_the_consumer_is_no_end_of_the_stream():
    writer, stream = native.make_stream()
    consuming = asyncio.create_task(collect(stream))
    await asyncio.sleep(0)
    consuming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consuming
    assert writer.push(1) == "accepted"
    writer.close()
    assert await collect(stream) == [1]


@pytest.mark.parametrize("whose", ["asyncio's", "ours"])
async def test_20_a_cancel_between_delivery_and_resumption_wins_as_in_asyncio(whose):
    """In debug mode a task is resumed through the loop's queue, and there is a gap."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    if whose == "ours":
        promise, future = native.make_Promise()
        complete = promise.set
    else:
        future = loop.create_future()
        complete = future.set_result

    async def wait():
        return await future

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    future.add_done_callback(lambda done: order.append(task.done()))
    order = []
    complete(5)
    await until(future.done)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert future.result() == 5  # it is the task that was cancelled
    assert len(order) == 1


async def test_20_a_cancel_between_delivery_and_resumption_takes_no_event_from_a_stream():
    asyncio.get_running_loop().set_debug(True)
    writer, stream = native.make_stream()
    for number in range(100):
        task = asyncio.create_task(take(stream))
        await asyncio.sleep(0)
        waited = task._fut_waiter
        writer.push_in_thread(number)
        await until(waited.done)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.qsize() == 1
        assert await anext(stream) == number


class Ties:
    """Rounds in which something comes about when a timeout ends.

    In the first both are asked for the same moment. After a value the timeout comes earlier, and after a timeout later:
    so they meet, however long things take here, and each wins as often as the other.
    """

    LEAST = 0.001  # uvloop's timers count milliseconds
    STEP = 0.0001

    def __init__(self, waiting):
        self.waiting = waiting
        self.lead = 0.0  # of the value, before the timeout
        self.values = self.timeouts = 0

    def __iter__(self):
        for number in range(1, 500):
            yield number
            if min(self.values, self.timeouts) >= 50:
                return
        pytest.fail(f"they never met: {self.values} values, {self.timeouts} timeouts")

    async def wait(self, awaitable, provoke, number):
        """The value, or None after the timeout; in either case after the provocation, too."""
        provoked = asyncio.Event()

        def come():
            provoke(number)
            provoked.set()

        asyncio.get_running_loop().call_later(self.LEAST + max(-self.lead, 0.0), come)
        try:
            value = await self.waiting(awaitable, self.LEAST + max(self.lead, 0.0))
        except TimeoutError:
            value = None
            self.timeouts += 1
            self.lead += self.STEP
        else:
            self.values += 1
            self.lead -= self.STEP
        await provoked.wait()
        return value


async def in_a_block(awaitable, seconds):
    async with asyncio.timeout(seconds):
        return await awaitable


@pytest.fixture(params=[asyncio.wait_for, in_a_block], ids=["wait_for", "timeout"])
def ties(request):
    return Ties(request.param)


@pytest.mark.parametrize("method", ["set", "set_from_thread"])
async def test_21_a_timeout_that_ties_with_a_result_is_a_value_or_a_timeout_and_never_both(ties, method):
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    for number in ties:
        promise, future = native.make_Promise()
        value = await ties.wait(future, getattr(promise, method), number)
        if value is not None:
            assert value == future.result() == number
        elif not future.cancelled():  # its result came to a Future that nobody awaited any more
            assert future.result() == number
    await posts_have_run()
    assert contexts == []


@pytest.mark.parametrize("method", ["push", "push_in_thread"])
async def test_21_a_timeout_that_ties_with_an_event_loses_nothing(ties, method):
    writer, stream = native.make_stream()
    for number in ties:
        event = await ties.wait(anext(stream), getattr(writer, method), number)
        if event is None:
            event = await asyncio.wait_for(anext(stream), 20)
        assert event == number
    assert stream.qsize() == 0
    assert stream.stats().delivered == number
