"""Loops side by side, and threads that touch what belongs to another one's loop: in parallel where there is no GIL."""

import asyncio
import contextlib
import random
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import native
import pytest
from waiting import collect, wait_for

import aiobridge

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
LOOPS = PRODUCERS = 4


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_47_the_gil_stays_off():
    assert not sys._is_gil_enabled()


def test_47_four_loops_with_four_producers_each_get_all_of_theirs(new_loop):
    started = threading.Barrier(LOOPS)

    async def events(writer, stream):
        writer.push_all(2_000, PRODUCERS)
        writer.close()
        return len(await collect(stream))

    async def calls():
        called = []
        caller = native.Caller(lambda *arguments: called.append(threading.get_ident()))
        caller.fire_from_threads(250, PRODUCERS)
        while len(called) < 250 * PRODUCERS:
            await asyncio.sleep(0)
        return set(called)

    async def results():
        return sum(await asyncio.gather(*(native.add(i, 0) for i in range(1_000))))

    async def python_producers():
        writer, stream = aiobridge.make_stream(overflow="unbounded")
        pairs = [aiobridge.make_promise() for _ in range(500)]

        def produce(part):
            for i, (promise, _) in enumerate(pairs[part::PRODUCERS]):
                promise.set_result(part)
                writer.push(i)

        with ThreadPoolExecutor(PRODUCERS) as pool:
            list(pool.map(produce, range(PRODUCERS)))
        writer.close()
        return len(await collect(stream)), len(await asyncio.gather(*(future for _, future in pairs)))

    async def main():
        started.wait(20)
        me = threading.get_ident()
        pair = native.make_stream(capacity=2_000 * PRODUCERS)
        got = await asyncio.gather(events(*pair), calls(), results(), python_producers())
        assert got == [2_000 * PRODUCERS, {me}, 499_500, (500, 500)]

    def run(_):
        loop = new_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(main(), 50))
        finally:
            loop.close()

    with ThreadPoolExecutor(LOOPS) as pool:
        list(pool.map(run, range(LOOPS)))


def look(future):
    future.done()
    future.cancelled()
    future.get_loop()
    repr(future)
    _ = future._state, future._callbacks, future._result, future._exception


def test_47_other_threads_look_at_futures_and_cancel_them_while_they_are_completed(new_loop):
    """Asyncio says that its futures are for one thread. So are these; but nothing is corrupted, hung or lost."""
    futures = []
    over = threading.Event()

    def meddle(seed):
        chance = random.Random(seed)
        # Each is a call of the loop's, which without a limit would have more and more of them in each turn.
        callbacks = iter(range(2_000))

        def called(future):
            pass

        while not over.is_set():
            for future in futures[-200:]:
                look(future)
                if chance.random() < 0.2 and next(callbacks, None) is not None:
                    future.add_done_callback(called)
                if chance.random() < 0.2:
                    future.remove_done_callback(called)
                if chance.random() < 0.2:
                    with contextlib.suppress(asyncio.InvalidStateError, asyncio.CancelledError, TimeoutError):
                        future.result(timeout=0)
                if chance.random() < 0.05:
                    future.cancel()

    async def main():
        loop = asyncio.get_running_loop()
        meddlers = [loop.run_in_executor(None, meddle, seed) for seed in range(3)]
        outcomes = {"value": 0, "cancelled": 0}
        try:
            for _ in range(40):
                burst = native.Burst()
                made = burst.make(50)
                futures.extend(made)
                waiting = asyncio.gather(*made, return_exceptions=True)
                burst.go(2)
                for outcome in await asyncio.wait_for(waiting, 30):
                    outcomes["cancelled" if isinstance(outcome, asyncio.CancelledError) else "value"] += 1
                burst.join()
        finally:
            over.set()
        await asyncio.gather(*meddlers)
        assert sum(outcomes.values()) == 2_000
        assert outcomes["value"]

    loop = new_loop()
    try:
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


async def test_47_other_threads_look_at_a_stream_while_it_is_iterated():
    over = threading.Event()

    def meddle(stream):
        while not over.is_set():
            stream.qsize()
            stream.stats()
            repr(stream)
            _ = stream.closed, stream.dropped

    loop = asyncio.get_running_loop()
    writer, stream = native.make_stream(capacity=64, overflow="block")
    meddlers = [loop.run_in_executor(None, meddle, stream) for _ in range(2)]
    writer.push_from_thread(5_000)
    try:
        assert len(await collect(stream)) == 5_000
    finally:
        over.set()
    await asyncio.gather(*meddlers)


# Fails, without a GIL, if whoever is second in closing a bridge does not tell its members too
def test_47_who_closes_a_loop_that_the_notifier_is_letting_go_finds_everything_ended(loop_type):
    found_closed = threading.Event()

    class FoundClosed(loop_type):
        """By the notifier alone, so that it begins, and the loop's own end comes when it is halfway."""

        def call_soon_threadsafe(self, callback, *args, context=None):
            if threading.current_thread() is threading.main_thread():
                return super().call_soon_threadsafe(callback, *args, context=context)
            found_closed.set()
            raise RuntimeError("Event loop is closed")

        def is_closed(self):
            return threading.current_thread() is not threading.main_thread() or super().is_closed()

    async def make():
        aiobridge.configure(wakeup="call_soon")
        burst = native.Burst()
        return burst, burst.make(5_000), native.make_stream()

    loop = FoundClosed()
    burst, futures, (writer, stream) = loop.run_until_complete(make())
    burst.go(1)
    burst.join()
    wait_for(futures[0].done)
    loop.close()
    assert found_closed.is_set()
    assert all(future.done() for future in futures)
    assert stream.closed
    assert writer.push(1) == "closed"
