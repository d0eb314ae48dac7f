"""The bridge of a loop lets go of everything, on the right thread; our notifier runs nobody's code."""

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import weakref

import native
import pytest
from loops import LoopThatDropsNothing, make_refusing_loop
from waiting import wait_for

import aiobridge


# Fails if the reader keeps the context of whoever used the loop first
@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_the_context_of_the_first_user_is_not_kept(wakeup):
    class Thing:
        pass

    variable = contextvars.ContextVar("variable")

    async def first():
        thing = Thing()
        variable.set(thing)
        aiobridge.configure(wakeup=wakeup)
        await native.nothing()
        return weakref.ref(thing)

    async def main():
        reference = await asyncio.create_task(first())
        for _ in range(3):
            await native.nothing()
            await asyncio.sleep(0)
        gc.collect()
        return reference() is None

    assert asyncio.run(main())


class ClosedLoopThatPosts(asyncio.SelectorEventLoop):
    """Completes another operation while the bridge of the closed loop tells its members."""

    post = None

    def post_now(self):
        if self.is_closed() and self.post:
            post, self.post = self.post, None
            post()

    def call_soon(self, callback, *args, context=None):
        self.post_now()
        return super().call_soon(callback, *args, context=context)

    def call_soon_threadsafe(self, callback, *args, context=None):
        self.post_now()
        return super().call_soon_threadsafe(callback, *args, context=context)


# Fails if Operation::become_ready does not discard after a refused post
def test_a_completion_while_the_loop_is_being_closed_leaks_nothing():
    loop = ClosedLoopThatPosts()
    answers = []

    async def main():
        return native.make_Promise(), native.make_Promise()

    first, (second_promise, second_future) = loop.run_until_complete(main())
    second_promises = [second_promise]
    del second_promise
    first[1].add_done_callback(print)
    loop.post = lambda: answers.append(second_promises[0].set(2))
    gc.collect()
    before = aiobridge.stats().operations
    loop.close()
    assert answers == ["accepted"]
    with pytest.raises(aiobridge.ClosedError):
        second_future.result()
    loop.post = None
    del first, second_future
    second_promises.clear()
    gc.collect()
    assert aiobridge.stats().operations == before - 2


# Fails if call_loop does not give up a loop that cannot be called; or a closed loop is reported
def test_a_post_to_a_closed_loop_that_told_nothing_closes_what_belongs_to_it_and_is_no_news():
    async def main():
        return native.make_Promise(), native.make_Promise()

    recorder = native.Recorder()
    loop = LoopThatDropsNothing()
    (first, _first), (second, _second) = loop.run_until_complete(main())
    loop.close()
    second.on_cancel(recorder)
    assert first.set(1) == "accepted"
    assert recorder.wait(1)
    assert recorder.records[0] == "loop_closed on aiobridge-hooks"
    assert second.set(1) == "closed"

    async def another():
        contexts = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
        assert await native.nothing() is None
        return contexts

    assert asyncio.run(another()) == []


# Fails if a loop that cannot say whether it is closed is asked after each wake, or never
def test_a_loop_that_cannot_be_asked_on_other_threads_is_told_of_once_and_served(loop_type, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    class LoopOfOneThread(loop_type):
        def is_closed(self):
            # While it is open: a wake that comes after its end would be one more to tell of.
            if threading.current_thread() is not threading.main_thread() and not super().is_closed():
                raise NotImplementedError
            return super().is_closed()

    async def main():
        aiobridge.configure(wakeup="call_soon")
        return [await native.add(number) for number in range(100)]

    with asyncio.Runner(loop_factory=LoopOfOneThread) as runner:
        assert runner.run(main()) == list(range(1, 101))
    assert told == [NotImplementedError]


# Fails if what the loop's answer raises, once it cannot be called, goes to the unraisable hook
def test_an_interrupt_while_a_loop_is_given_up_comes_out(loop_type, wakeup, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    async def start():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        return burst, burst.make(3)

    loop = make_refusing_loop(loop_type, OSError, lambda callback: type(callback).__name__ == "Drain")
    burst, futures = loop.run_until_complete(start())
    burst.go(1)
    burst.join()
    loop.refuses = True
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    for future in futures:
        assert isinstance(future.exception(), aiobridge.ClosedError)
    loop.close()
    assert told == []

    async def another():
        messages = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: messages.append(context["message"]))
        assert await native.nothing() is None
        return messages

    (message,) = asyncio.run(another())
    assert "a loop is given up, because it could not be called: OSError('not now')" in message


# Fails if the notifier drops the last reference to a loop
def test_a_loop_never_ends_on_the_notifier():
    ended, holder = [], []

    class DroppedLoop(LoopThatDropsNothing):
        def call_soon_threadsafe(self, callback, *args, context=None):
            if self.is_closed():
                holder.clear()
            return super().call_soon_threadsafe(callback, *args, context=context)

    async def main():
        aiobridge.configure(wakeup="call_soon")
        return native.make_Promise()

    loop = DroppedLoop()
    promise, _future = loop.run_until_complete(main())
    loop.close()
    weakref.finalize(loop, lambda: ended.append(threading.get_ident()))
    holder.append(loop)
    del loop
    promise.set(1)
    wait_for(lambda: ended)
    assert ended == [threading.get_ident()]


# Fails if the notifier, closing a bridge, drops the tasks that waited
def test_a_waiting_task_and_a_future_never_end_on_the_notifier():
    ended = []

    async def wait(future):
        try:
            await future
        finally:
            ended.append(threading.get_ident())

    async def main():
        aiobridge.configure(wakeup="call_soon")
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        promise, future = native.make_Promise()
        asyncio.create_task(wait(future))  # noqa: RUF006
        await asyncio.sleep(0)
        lonely_promise, lonely = native.make_Promise()
        lonely.add_done_callback(lambda done: None)  # keeps it alive, and nothing else does
        weakref.finalize(lonely, lambda: ended.append(threading.get_ident()))
        return promise, lonely_promise, native.make_Promise()

    loop = LoopThatDropsNothing()
    _waited_for, _lonely, (promise, _future) = loop.run_until_complete(main())
    loop.close()
    assert ended == []
    promise.set(1)
    wait_for(lambda: len(ended) == 2)
    assert ended == [threading.get_ident()] * 2


# Fails if calling the loop starts a garbage collection on the notifier
def test_no_garbage_collection_on_the_notifier():
    threads, calls = set(), []

    class AllocatingLoop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, callback, *args, context=None):
            calls.append(threading.get_ident())
            assert len([[] for _ in range(20_000)]) == 20_000  # enough for a collection
            return super().call_soon_threadsafe(callback, *args, context=context)

    def note(phase, info):
        threads.add(threading.get_ident())

    async def main():
        aiobridge.configure(wakeup="call_soon")
        promise, future = native.make_Promise()
        promise.set_from_thread(1)
        return await future

    gc.callbacks.append(note)
    try:
        with asyncio.Runner(loop_factory=AllocatingLoop) as runner:
            assert runner.run(main()) == 1
    finally:
        gc.callbacks.remove(note)
    assert set(calls) - {threading.get_ident()}
    assert threads <= {threading.get_ident()}
    wait_for(gc.isenabled)  # the notifier may not have returned yet
    assert gc.isenabled()


def test_the_debug_log_tells_which_loops_are_served(new_loop, caplog):
    async def main():
        assert await native.add(1) == 2

    with caplog.at_level(logging.DEBUG, "aiobridge"):
        loop = new_loop()
        loop.run_until_complete(main())
        address = f"{id(loop):#x}"
        loop.close()
        del loop
        gc.collect()
        aiobridge.stats()
    told = [record.getMessage() for record in caplog.records if record.name == "aiobridge"]
    ours = [message for message in told if address in message]
    assert "is served, and woken" in ours[0]
    assert "is closed" in ours[1]
    assert len(ours) == 2
    assert all(record.levelno == logging.DEBUG for record in caplog.records if record.name == "aiobridge")
