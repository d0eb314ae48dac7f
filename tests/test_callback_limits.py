"""Callbacks with a limit: how many of their calls run at a time, and what becomes of one more."""

import asyncio
import gc
import threading
import weakref

import native
import pytest
from waiting import posts_have_run, until


class Gate:
    """A coroutine function that notes who runs, and lets them go one at a time."""

    def __init__(self):
        self.running, self.most, self.order, self.waiting = 0, 0, [], []

    async def __call__(self, number):
        self.running += 1
        self.most = max(self.most, self.running)
        self.order.append(number)
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            await future
        finally:
            self.running -= 1
        return number

    def let_go(self):
        self.waiting.pop(0).set_result(None)

    async def finish(self, calls):
        """Let all go, one after another."""
        while len(self.order) < calls or self.running:
            await until(lambda: self.waiting)
            called = len(self.order)
            self.let_go()
            await until(lambda called=called: not self.running or len(self.order) > called)


async def test_calls_that_wait_for_a_place_run_when_nobody_holds_the_callback_any_more():
    gate = Gate()
    order = gate.order
    gone = weakref.ref(gate)
    caller = native.Caller(gate)
    caller.limit(1)
    for number in range(3):
        caller.fire_in_thread(number)
    await until(lambda: order)
    await posts_have_run()
    caller.drop_in_thread()
    await posts_have_run()
    await gate.finish(3)
    assert order == [0, 1, 2]
    del gate
    await until(lambda: gc.collect() is not None and gone() is None)


async def test_a_limit_bounds_how_many_run_at_a_time():
    gate = Gate()
    caller = native.Caller(gate)
    caller.limit(3)
    assert await asyncio.to_thread(caller.fire_from_threads, 50, 4) == 200
    for done in range(200):
        await until(lambda done=done: len(gate.order) == min(done + 3, 200))
        gate.let_go()
    await until(lambda: not gate.running)
    assert gate.most == 3
    for thread in range(4):
        assert [number for number in gate.order if number % 4 == thread] == list(range(thread, 200, 4))


async def test_a_limit_holds_for_functions_that_end_at_once():
    seen = []
    caller = native.Caller(seen.append)
    caller.limit(1, 1000)
    assert await asyncio.to_thread(caller.fire_from_threads, 100, 4) == 400
    await until(lambda: len(seen) == 400)


@pytest.mark.parametrize(
    ("overflow", "fates", "called"),
    [
        ("refuse", ["accepted", "accepted", "full", "full"], [0, 1, 2]),
        ("drop_newest", ["accepted", "accepted", "dropped", "dropped"], [0, 1, 2]),
        ("drop_oldest", ["accepted", "accepted", "evicted_oldest", "evicted_oldest"], [0, 3, 4]),
        ("unbounded", ["accepted"] * 4, [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("at_hand", [True, False])
async def test_calls_beyond_the_limit_follow_its_policy(overflow, fates, called, at_hand):
    gate = Gate()
    caller = native.Caller(gate)
    caller.limit(1, 2, overflow)
    caller.fire(0)
    await until(lambda: gate.order == [0])
    got = []
    for number in range(1, 5):
        got.append(caller.fire(number))
        if at_hand:
            await posts_have_run()
    assert got == fates
    await gate.finish(len(called))
    assert gate.order == called


async def test_an_evicted_call_fails():
    gate = Gate()
    caller = native.Caller(gate)
    caller.limit(1, 1, "drop_oldest")
    caller.fire(0)
    await until(lambda: gate.order == [0])
    recorder = native.Recorder()
    caller.ask_and_record(1, recorder)
    assert await asyncio.to_thread(recorder.wait, 1)
    assert caller.fire(2) == "evicted_oldest"
    assert await asyncio.to_thread(recorder.wait, 5)
    assert recorder.records[1:3] == ["refused", "evicted_oldest"]
    await gate.finish(2)
    assert gate.order == [0, 2]


async def test_error_closes_the_callback():
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    gate = Gate()
    caller = native.Caller(gate)
    caller.limit(1, 1, "error")
    caller.fire(0)
    await until(lambda: gate.order == [0])
    assert [caller.fire(number) for number in (1, 2, 3)] == ["accepted", "full", "closed"]
    assert caller.reason == "failed"
    await until(lambda: contexts)
    assert "a callback overflowed" in contexts[0]["message"]
    await gate.finish(2)
    assert gate.order == [0, 1]


async def test_block_waits_for_a_place():
    gate = Gate()
    caller = native.Caller(gate)
    caller.limit(1, 1, "block")
    assert await asyncio.to_thread(caller.fire, 0) == "accepted"
    await until(lambda: gate.order == [0])
    assert await asyncio.to_thread(caller.fire, 1) == "accepted"
    assert caller.fire(2) == "would_deadlock"
    blocked = asyncio.create_task(asyncio.to_thread(caller.fire, 2))
    await posts_have_run()
    assert not blocked.done()
    gate.let_go()
    assert await blocked == "accepted"
    await gate.finish(3)
    assert gate.order == [0, 1, 2]


async def test_block_ends_with_the_timeout():
    gate = Gate()
    caller = native.Caller(gate)
    caller.limit(1, 1, "block", timeout=0.01)
    for number in range(2):
        assert await asyncio.to_thread(caller.fire, number) == "accepted"
        await until(lambda: gate.order == [0])
    assert await asyncio.to_thread(caller.fire, 2) == "timed_out"
    await gate.finish(2)


def test_blocked_calls_are_released_when_the_loop_is_closed(new_loop):
    fates = []

    async def main():
        gate = Gate()
        caller = native.Caller(gate)
        caller.limit(1, 1, "block")
        for number in range(2):
            assert await asyncio.to_thread(caller.fire, number) == "accepted"
            await until(lambda: gate.order == [0])
        return caller

    loop = new_loop()
    caller = loop.run_until_complete(main())
    threads = [threading.Thread(target=lambda: fates.append(caller.fire(2))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.close()
    for thread in threads:
        thread.join()
    assert fates == ["closed"] * 4


async def test_limits_that_make_no_sense_are_refused():
    caller = native.Caller(print)
    for running, waiting in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="running and waiting must be at least 1"):
            caller.limit(running, waiting)
    for overflow in ("conflate", "unheard of"):
        with pytest.raises(ValueError, match="calls cannot have overflow policy"):
            caller.limit(1, 1, overflow)
    caller.limit(1)
    with pytest.raises(RuntimeError, match="it has a limit, or was called, already"):
        caller.limit(1)
    called = native.Caller(lambda number: None)
    called.fire(1)
    with pytest.raises(RuntimeError, match="already"):
        called.limit(1)
    await posts_have_run()
