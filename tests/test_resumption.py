"""How the drain resumes tasks: in their context, outside of every other task, and whatever interrupts it."""

import asyncio
import contextvars
import time

import native
import pytest
from waiting import Turns

import aiobridge


class RecordingLoop(asyncio.SelectorEventLoop):
    """Remembers what went through its queue."""

    def __init__(self):
        self.queued = []
        super().__init__()

    def call_soon(self, callback, *args, context=None):
        self.queued.append(getattr(callback, "__name__", ""))
        return super().call_soon(callback, *args, context=context)


# Fails if there is direct resumption in debug mode, or none at all
@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
@pytest.mark.parametrize("debug", [True, False])
def test_a_task_is_resumed_inside_the_drain_but_not_in_debug_mode(wakeup, debug):
    loop = RecordingLoop()

    async def main():
        aiobridge.configure(wakeup=wakeup)
        promise, future = native.make_Promise()
        promise.set_from_thread(1)
        assert await future == 1

    with asyncio.Runner(loop_factory=lambda: loop, debug=debug) as runner:
        runner.run(main())
    assert ("task_wakeup" in loop.queued) is debug


# Fails if a task that is resumed directly runs outside its context
async def test_a_task_has_its_context_after_an_await():
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("the test's")

    async def wait(name):
        variable.set(name)
        promise, future = native.make_Promise()
        promise.set_from_thread(1)
        assert await future == 1
        seen = variable.get()
        variable.set(f"{name}, set again")
        return seen

    names = ["first", "second", "third"]
    assert await asyncio.gather(*map(wait, names)) == names
    assert variable.get() == "the test's"


# Fails if every builtin method of a task is called directly
class Yielded:
    """As asyncio's own futures are written in Python: what it yields to the task is the future itself."""

    def __init__(self, future):
        self.future = future
        self.thrown = None

    def __await__(self):
        self.future._asyncio_future_blocking = True
        try:
            yield self.future
        except BaseException as error:
            self.thrown = type(error)
            raise
        return self.future.result()


# Fails if a task that is resumed directly is told the same of an error as of a value
async def test_an_error_is_thrown_into_what_has_yielded_the_future():
    promise, future = native.make_Promise()
    yielded = Yielded(future)
    waiting = asyncio.ensure_future(yielded)
    await asyncio.sleep(0)
    promise.fail("no")
    with pytest.raises(RuntimeError, match="no"):
        await waiting
    assert yielded.thrown is RuntimeError
    promise, future = native.make_Promise()
    promise.set_from_thread(1)
    assert await Yielded(future) == 1


async def test_a_builtin_method_of_a_task_as_first_callback_goes_through_the_loop():
    order = []

    async def forever():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            order.append("cancelled")

    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    promise, future = native.make_Promise()
    future.add_done_callback(task.cancel)
    future.add_done_callback(lambda done: order.append("callback"))
    promise.set_from_thread(1)
    await task
    assert order == ["callback", "cancelled"]


class PostingLoop(asyncio.SelectorEventLoop):
    """A result comes while the drain is at work: it has taken its batch, and not put the inbox to rest."""

    post_next = None

    def get_debug(self):
        post, self.post_next = self.post_next, None
        if post:
            post()
        return super().get_debug()


# Fails if deliver_batch does not look again when the inbox could not be put to rest
@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_a_result_that_comes_between_taking_and_resting_is_delivered(wakeup):
    loop = PostingLoop()

    async def main():
        aiobridge.configure(wakeup=wakeup)
        (first_promise, first), (second_promise, second) = native.make_Promise(), native.make_Promise()
        loop.post_next = lambda: second_promise.set(2)
        first_promise.set(1)
        assert await first == 1
        assert loop.post_next is None
        return await asyncio.wait_for(second, 5)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main()) == 2


# Fails if a drain has no time budget
async def test_slow_tasks_do_not_keep_the_loop_from_turning():
    burst = native.Burst()
    futures = burst.make(200)  # fewer than the 512 items of a drain

    async def work(future):
        await future
        time.sleep(0.001)  # noqa: ASYNC251

    tasks = [asyncio.create_task(work(future)) for future in futures]
    await asyncio.sleep(0)
    burst.go(1)
    burst.join()
    turns = Turns()
    await asyncio.wait(tasks)
    assert turns.count >= 8  # 200 ms, of which a drain takes 2, and looks at the clock at every 16th item
