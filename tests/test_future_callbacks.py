"""aiobridge.Future: done callbacks, and the tasks that wait."""

import asyncio
import contextvars
import gc
import weakref

import native
import pytest


async def test_a_future_whose_callbacks_were_removed_is_abandoned_when_dropped():
    promise, future = native.make_Promise()
    await asyncio.wait([future], timeout=0)
    assert promise.reason == "open"
    del future
    gc.collect()
    assert promise.reason == "abandoned"


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


async def test_every_instance_of_a_callback_is_removed_and_the_others_run_in_order():
    called = []
    promise, future = native.make_Promise()

    class Equal:
        """Equal to another of its kind, as bound methods are."""

        def __call__(self, done):
            called.append("removed")

        def __eq__(self, other):
            return isinstance(other, Equal)

        __hash__ = None

    for number in range(4):
        future.add_done_callback(Equal())
        future.add_done_callback(lambda done, number=number: called.append(number))
    assert future.remove_done_callback(Equal()) == 4
    assert future.remove_done_callback(Equal()) == 0
    assert len(future._callbacks) == 4
    promise.set_from_thread(1)
    await future
    await asyncio.sleep(0)
    assert called == [0, 1, 2, 3]


class Sulky:
    def __init__(self):
        self.called = []  # not the class's, nor a function's in it: see "Without a GIL" in architecture.md

    def __call__(self, done):
        self.called.append(done)

    def __eq__(self, other):
        raise KeyError("not comparable")

    __hash__ = None


async def test_a_callback_that_cannot_be_compared_is_kept_and_says_so():
    promise, future = native.make_Promise()
    callback = Sulky()
    future.add_done_callback(callback)
    with pytest.raises(KeyError, match="not comparable"):
        future.remove_done_callback(print)
    promise.set_from_thread(1)
    await future
    await asyncio.sleep(0)
    assert callback.called == [future]


class Garbage:
    """In a cycle of its own, with a finalizer that its class does not keep, as above."""

    def __init__(self, finalizer):
        self.finalizer = finalizer
        self.itself = self

    def __del__(self):
        self.finalizer()


def collect_in(call, allocations, finalizer):
    """Call with a garbage collection at about so many allocations, which runs the finalizer."""
    gc.collect()
    gc.disable()
    pairs = [(number, number) for number in range(5000)]  # Python keeps some for later
    Garbage(finalizer)
    gc.set_threshold(gc.get_count()[0] + allocations)
    gc.enable()
    try:
        call()
    finally:
        gc.set_threshold(700, 10, 10)
    del pairs
    gc.collect()


@pytest.mark.parametrize("allocations", range(8))
async def test_a_callback_is_called_if_a_collection_completes_the_future_while_it_is_added(allocations):
    called = []
    context = contextvars.copy_context()
    _promise, future = native.make_Promise()
    future.add_done_callback(lambda done: called.append("first"))
    second = lambda done: called.append("second")  # noqa: E731
    collect_in(lambda: future.add_done_callback(second, context=context), allocations, future.cancel)
    await asyncio.sleep(0)
    assert called == ["first", "second"]
    future = weakref.ref(future)
    gc.collect()
    assert future() is None


@pytest.mark.parametrize("allocations", range(8))
async def test_callbacks_survive_a_collection_that_completes_the_future_while_they_are_looked_at(allocations):
    called = []
    for look in (lambda future: future._callbacks, lambda future: future.remove_done_callback(None)):
        _promise, future = native.make_Promise()
        for name in ("first", "second"):
            future.add_done_callback(lambda done, name=name: called.append(name), context=contextvars.Context())
        collect_in(lambda look=look, future=future: look(future), allocations, future.cancel)
        await asyncio.sleep(0)
    assert called == ["first", "second"] * 2
