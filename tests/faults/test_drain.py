"""What delivered code may do to the drain that delivers it."""

import asyncio
import contextvars
import sys

import native
import pytest
from waiting import collect, until, wait_for

import aiobridge


async def result_of(future):
    return await future


def failing(number):
    raise ValueError(f"the callback failed: {number}")


async def test_26_a_done_callback_that_raises_is_reported_once_and_the_others_run():
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


def test_27_an_exception_handler_that_raises_costs_no_delivery(new_loop, caplog):
    """asyncio logs it, as it does for its own callers."""
    loop = new_loop()
    handled = []

    def handler(loop, context):
        handled.append(context["message"])
        raise KeyError("the handler failed")

    async def main():
        promise, future = native.make_Promise()
        caller = native.Caller(failing)
        burst = native.Burst()
        futures = burst.make(20)
        waiting = asyncio.gather(*futures)
        await asyncio.sleep(0)
        promise.set(1)
        promise.set(2)  # a misuse, which is reported
        caller.fire_in_thread(3)
        burst.go(1)
        burst.join()
        assert await future == 1
        assert await waiting == list(range(20))
        await until(lambda: len(handled) == 2)

    loop.set_exception_handler(handler)
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.close()
    assert "fulfilled twice" in handled[0]
    assert "called by native code, raised" in handled[1]
    assert caplog.text.count("Unhandled error in exception handler") == 2


async def failing_coroutine(number):
    raise ValueError(number)


@pytest.mark.parametrize("function", [failing, failing_coroutine])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_27_an_interrupt_of_the_exception_handler_leaves_the_loop(new_loop, function, interrupt):
    loop = new_loop()

    def handler(loop, context):
        raise interrupt(context["message"])

    async def main():
        caller = native.Caller(function)
        caller.fire_in_thread(3)
        await asyncio.sleep(20)

    loop.set_exception_handler(handler)
    task = loop.create_task(main())
    with pytest.raises(interrupt, match="called by native code, raised"):
        loop.run_until_complete(task)
    loop.set_exception_handler(None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


def test_27_a_loop_whose_exception_handling_fails_is_told_to_the_unraisable_hook(loop_type, wakeup, monkeypatch):
    class Loop(loop_type):
        def call_exception_handler(self, context):
            raise KeyError("the loop failed")

    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: unraisable.append(repr(about.exc_value)))
    loop = Loop()

    async def main():
        aiobridge.configure(wakeup=wakeup)
        caller = native.Caller(failing)
        burst = native.Burst()
        futures = burst.make(20)
        waiting = asyncio.gather(*futures)
        await asyncio.sleep(0)
        caller.fire_in_thread(1)
        burst.go(1)
        burst.join()
        assert await waiting == list(range(20))

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.close()
    assert unraisable == ["KeyError('the loop failed')"]


def frames():
    depth, frame = 0, sys._getframe()
    while frame:
        depth, frame = depth + 1, frame.f_back
    return depth


async def test_28_tasks_that_post_when_they_are_resumed_do_not_nest():
    pairs = [native.make_Promise() for _ in range(1000)]
    order, depths = [], set()

    async def pass_on(number):
        order.append(await pairs[number][1])
        depths.add(frames())
        if number + 1 < len(pairs):
            pairs[number + 1][0].set(number + 1)

    tasks = [asyncio.create_task(pass_on(number)) for number in range(len(pairs))]
    await asyncio.sleep(0)
    pairs[0][0].set_from_thread(0)
    await asyncio.gather(*tasks)
    assert order == list(range(len(pairs)))
    assert len(depths) == 1


async def test_28_a_task_that_closes_a_stream_when_it_is_resumed_ends_the_wait_of_its_consumer():
    """The stream's wake is in the same batch, behind the task's result."""
    writer, stream = native.make_stream()
    promise, future = native.make_Promise()

    async def close():
        assert await future == 1
        closing = stream.aclose()
        assert writer.push(2) == "closed"
        await closing

    tasks = [asyncio.create_task(close()), asyncio.create_task(collect(stream))]
    await asyncio.sleep(0)
    promise.set(1)
    writer.push(1)
    assert await asyncio.wait_for(asyncio.gather(*tasks), 20) == [None, []]
    assert writer.reason == "consumer_closed"


def test_28_a_task_that_stops_the_loop_when_it_is_resumed_loses_nothing(new_loop):
    loop = new_loop()
    received = []
    count = 5000

    async def start():
        burst = native.Burst()
        futures = burst.make(count)  # more than the drains of a few turns deliver

        async def wait(number):
            received.append(await futures[number])
            if number == 0:
                loop.stop()

        tasks = [asyncio.create_task(wait(number)) for number in range(count)]
        await asyncio.sleep(0)
        return burst, tasks

    burst, tasks = loop.run_until_complete(start())
    burst.go(1)
    burst.join()
    loop.run_forever()
    assert 1 <= len(received) < count
    loop.run_until_complete(asyncio.wait(tasks))
    assert received == list(range(count))
    loop.close()


async def test_28_aclose_in_a_task_that_was_just_resumed_wakes_the_consumer_too():
    _writer, stream = native.make_stream()
    waiting = asyncio.create_task(collect(stream))

    async def close():
        assert await native.add(1) == 2
        await stream.aclose()  # still inside the drain that resumed this task

    await asyncio.gather(close(), close())
    assert await asyncio.wait_for(waiting, 20) == []


@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_29_a_nested_loop_inside_a_resumed_task_gets_the_rest_of_the_batch(wakeup):
    """The drain is suspended in the task that runs the nested loop; the batch must go on without it."""
    loop = asyncio.SelectorEventLoop()
    received = []

    async def main():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        futures = burst.make(3)
        done = asyncio.Event()

        async def nest():
            received.append(await futures[0])
            asyncio.events._set_running_loop(None)
            asyncio.tasks._leave_task(loop, this := asyncio.current_task(loop))
            while not last.done():  # what nest_asyncio's run_until_complete does
                loop._run_once()
            asyncio.tasks._enter_task(loop, this)
            asyncio.events._set_running_loop(loop)
            received.append("nested loop left")
            done.set()

        async def wait(number):
            asyncio.events._set_running_loop(loop)
            received.append(await futures[number])

        first = asyncio.create_task(nest())
        second = asyncio.create_task(wait(1))
        last = asyncio.create_task(wait(2))
        await asyncio.sleep(0)
        burst.go(1)
        burst.join()
        await done.wait()
        await asyncio.wait([first, second, last])

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert received == [0, 1, 2, "nested loop left"]
    loop.close()


@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_29_a_nested_loop_inside_a_resumed_task_gets_new_results(wakeup):
    loop = asyncio.SelectorEventLoop()

    async def main():
        aiobridge.configure(wakeup=wakeup)
        future = native.add(1)
        assert await future == 2
        promise, inner = native.make_Promise()
        this = asyncio.current_task()
        asyncio.tasks._leave_task(loop, this)
        promise.set_from_thread(3)
        while not inner.done():
            loop._run_once()
        asyncio.tasks._enter_task(loop, this)
        return inner.result()

    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    assert loop.run_until_complete(asyncio.wait_for(main(), 20)) == 3
    assert contexts == []
    loop.close()


# Fails if there is direct resumption though a task is current
@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_29_a_nested_loop_inside_a_current_task_does_not_resume_another_one(wakeup):
    loop = asyncio.SelectorEventLoop()
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main():
        aiobridge.configure(wakeup=wakeup)
        promise, future = native.make_Promise()

        async def wait():
            return await future

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        promise.set_from_thread(3)
        while not future.done():
            loop._run_once()  # without leaving the current task
        return await asyncio.wait_for(task, 5)

    assert loop.run_until_complete(main()) == 3
    assert contexts == []
    loop.close()


@pytest.fixture
def loop_with_drains(loop_type):
    """A loop that keeps what it is given to call when something was posted: by the notifier, or for the descriptor."""

    class LoopWithDrains(loop_type):
        def __init__(self):
            super().__init__()
            self.drains = []

        def keep(self, callback):
            if type(callback).__name__ == "Drain":
                self.drains.append(callback)

        def call_soon_threadsafe(self, callback, *args, context=None):
            self.keep(callback)
            return super().call_soon_threadsafe(callback, *args, context=context)

        def add_reader(self, fd, callback, *args):
            self.keep(callback)
            return super().add_reader(fd, callback, *args)

    return LoopWithDrains()


# Fails if tasks are resumed directly though a task is current
def test_29_a_drain_that_is_called_inside_a_task_resumes_others_through_the_loop(loop_with_drains, wakeup):
    loop = loop_with_drains
    contexts, received = [], []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        futures = burst.make(3)

        async def wait(future):
            received.append(await future)

        tasks = [asyncio.create_task(wait(future)) for future in futures]
        await asyncio.sleep(0)
        burst.go(1)
        burst.join()
        wait_for(lambda: loop.drains)  # the notifier asks the loop when it comes to it
        loop.drains[-1]()
        assert [future.result() for future in futures] == [0, 1, 2]
        assert (received, contexts) == ([], [])
        await asyncio.wait_for(asyncio.gather(*tasks), 20)

    loop.run_until_complete(main())
    assert (received, contexts) == ([0, 1, 2], [])
    loop.close()


def test_30_a_task_whose_context_is_entered_already_is_resumed_through_the_loop(loop_type, wakeup):
    """The loop runs drains in the very context in which a task waits."""
    context = contextvars.copy_context()

    class Loop(loop_type):
        drains = 0

        def context_for(self, callback, given):
            if type(callback).__name__ != "Drain":
                return given
            self.drains += 1
            return context

        def call_soon(self, callback, *args, context=None):
            return super().call_soon(callback, *args, context=self.context_for(callback, context))

        def call_soon_threadsafe(self, callback, *args, context=None):
            return super().call_soon_threadsafe(callback, *args, context=self.context_for(callback, context))

    loop = Loop()
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def main():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        futures = burst.make(600)  # the last are left to a drain that the loop is asked to call
        tasks = [loop.create_task(result_of(future), context=context) for future in futures]
        await asyncio.sleep(0)
        burst.go(1)
        burst.join()
        return await asyncio.gather(*tasks)

    assert loop.run_until_complete(asyncio.wait_for(main(), 20)) == list(range(600))
    assert loop.drains >= 1
    assert contexts == []
    loop.close()
