"""Loops that close, stop, disappear, follow one another or run side by side, while native threads post to them."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path

import native
import pytest
import sizes
from descriptors import eventfds
from loops import LoopWithoutReaders
from waiting import wait_for

import aiobridge

TESTS = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(sizes.PATIENCE)


def run(new_loop, main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def test_11_a_thousand_posts_return_while_python_holds_the_gil(new_loop):
    """They return before the spin ends: if one of them waited for the GIL, none would be counted inside the spin."""

    async def main():
        poster = native.Poster()
        futures = poster.start(1000)
        waiting = asyncio.gather(*futures)
        await asyncio.sleep(0)
        poster.go()
        deadline = time.monotonic() + 20
        while not poster.finished and time.monotonic() < deadline:
            pass  # no await: the loop's thread keeps computing
        assert poster.finished, "the posts wait for the loop's thread"
        assert not futures[0].done()
        assert await waiting == list(range(1000))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody gets the GIL from us by asking
    try:
        run(new_loop, main())
    finally:
        sys.setswitchinterval(interval)


# Fails if closing the inbox, or a stream of the loop, lets a post through, or forgets a payload
def test_12_a_loop_closed_while_two_threads_post_refuses_from_then_on_and_every_payload_ends(new_loop):
    live, before = native.Tracked.live, aiobridge.stats().operations
    accepted, reasons = 0, []
    for _ in range(sizes.LOOPS):
        loop = new_loop()

        async def main(race):
            streams = race.streams()
            for stream in streams:
                stream.on_close(reasons.append)
            return streams, race.futures()

        race = native.ClosingRace(2)
        streams, futures = loop.run_until_complete(main(race))
        race.start()
        loop.close()
        assert not race.join()
        assert all(stream.closed for stream in streams)
        assert all(future.done() for future in futures)
        for stream in streams:
            stats = stream.stats()
            assert stats.accepted == stats.evicted + stats.undelivered
            assert stats.closed == 100
            accepted += stats.accepted
        del race, streams, futures, stream
    assert accepted > 0  # some loops were closed while they were posted to
    wait_for(lambda: (native.Tracked.live, aiobridge.stats().operations) == (live, before))
    wait_for(lambda: len(reasons) == 2 * sizes.LOOPS)
    assert set(reasons) == {"loop_closed"}


@pytest.fixture(params=["with readers", "without readers"])
def base(request, loop_type):
    if request.param == "with readers":
        return loop_type
    if loop_type is not asyncio.SelectorEventLoop:
        pytest.skip("uvloop has readers")
    return LoopWithoutReaders


@pytest.fixture
def called_loop(base):
    """A loop that tells when it was called by another thread."""

    class CalledLoop(base):
        def __init__(self):
            super().__init__()
            self.called = threading.Event()

        def call_soon_threadsafe(self, callback, *args, context=None):
            try:
                return super().call_soon_threadsafe(callback, *args, context=context)
            finally:
                self.called.set()

    return CalledLoop()


# Fails if a loop without readers has no timer of ours
@pytest.mark.parametrize(
    ("wakeup", "queued_by"), [("call_soon", "call_soon_threadsafe"), ("call_soon", "call_soon"), ("fd", "call_soon")]
)
def test_13_a_loop_closed_with_our_call_in_its_queue_is_found_closed(called_loop, wakeup, queued_by):
    if wakeup == "fd" and isinstance(called_loop, LoopWithoutReaders):
        called_loop.close()
        pytest.skip("without readers there is no waker of descriptors")
    recorder = native.Recorder()

    async def main():
        aiobridge.configure(wakeup=wakeup)
        return native.make_Promise(), native.make_Promise(), native.make_stream(recorder=recorder)

    async def make(burst):
        futures = burst.make(2000)
        futures[0].add_done_callback(lambda done: loop.stop())
        return futures

    loop = called_loop
    (first, future), (second, never), (writer, stream) = loop.run_until_complete(main())
    loop.called.clear()
    first.set_from_thread(1)
    if queued_by == "call_soon_threadsafe":
        assert loop.called.wait(20)
    else:
        # The drain that comes now finds more than it delivers in one turn, so that it calls for another.
        burst = native.Burst()
        futures = loop.run_until_complete(make(burst))
        burst.go()
        burst.join()
        loop.run_forever()
        assert not futures[-1].done()
        del futures
    loop.close()
    wait_for(lambda: (writer.reason, second.reason) == ("loop_closed", "loop_closed"))
    assert (second.set(2), writer.push(1)) == ("closed", "closed")
    assert recorder.wait(1)
    assert recorder.records == ["loop_closed on aiobridge-hooks"]
    assert future.done()
    with pytest.raises(aiobridge.ClosedError):
        never.result()
    assert stream.closed


def test_14_a_loop_that_is_dropped_unclosed_is_collected_and_its_bridge_goes_with_the_producers(request, new_loop):
    """Or it stays, as uvloop's do, if one that never met us stays too: then all of this comes when it is closed."""
    gc.collect()  # what other tests have left
    before = aiobridge.stats().loops

    async def main():
        return native.make_Promise()

    loop = new_loop()
    other = type(loop)()
    promise, future = loop.run_until_complete(main())
    other.run_until_complete(asyncio.sleep(0))
    assert aiobridge.stats().loops == before + 1
    ours, without_us = weakref.ref(loop), weakref.ref(other)
    with warnings.catch_warnings(record=True):  # asyncio's loops warn that they are unclosed
        warnings.simplefilter("always", ResourceWarning)
        del loop, other
        gc.collect()
    assert (ours() is None) == (without_us() is None)
    if ours() is not None:
        assert request.node.callspec.params["new_loop"] == "uvloop"
        assert promise.reason == "open"
        ours().close()
        without_us().close()
    assert promise.set(1) == "closed"
    assert promise.reason == "loop_closed"
    del promise, future
    wait_for(lambda: aiobridge.stats().loops <= before)


def test_15_a_loop_that_stops_gets_its_results_and_events_in_order_when_it_runs_again(new_loop):
    loop = new_loop()
    received, events = [], []

    async def start():
        burst = native.Burst()
        futures = burst.make(20)
        writer, stream = native.make_stream()

        async def wait():
            for future in futures:
                received.append(await future)

        async def iterate():
            events.extend([event async for event in stream])

        return burst, writer, asyncio.gather(wait(), iterate())

    async def rest(waiting):
        await waiting

    burst, writer, waiting = loop.run_until_complete(start())
    burst.go(1)
    burst.join()
    assert writer.push_all(100) == []
    writer.close()
    assert (received, events) == ([], [])
    loop.run_until_complete(rest(waiting))
    assert (received, events) == (list(range(20)), list(range(100)))
    loop.close()


@pytest.mark.parametrize("readers", [True, False], ids=["with readers", "without readers"])
def test_16_loops_one_after_another_at_the_same_address_do_not_mix(request, new_loop, readers):
    if not readers:
        if request.node.callspec.params["new_loop"] == "uvloop":
            pytest.skip("uvloop has readers")
        new_loop = LoopWithoutReaders
    kept, latest, posts = [], {}, 0

    async def main(number):
        nonlocal posts
        address = id(asyncio.get_running_loop())
        if address in latest:  # what belongs to the loop that was here before
            assert latest[address].set(1) == "closed"
            posts += 1
        kept.append(native.make_Promise())
        latest[address] = kept[-1][0]
        return await native.add(number, 0)

    for number in range(sizes.LOOPS):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            assert runner.run(main(number)) == number
            assert not kept[-1][1].done()
        del runner
        gc.collect(0)
    if "AIOBRIDGE_TEST_SANITIZE" not in os.environ:  # AddressSanitizer does not use addresses again
        assert posts > 0
    assert {promise.reason for promise, _ in kept} == {"loop_closed"}
    for _, future in kept:
        with pytest.raises(aiobridge.ClosedError):
            future.result()


def test_17_three_loops_in_three_threads_each_get_their_own_results_on_their_own_thread(new_loop):
    """All are served by the same pool, and each is woken by its own descriptor."""
    results, woken_by = {}, set()
    barrier = threading.Barrier(3, action=lambda: woken_by.update(eventfds()))
    kinds = set()

    def thread(name):
        async def main():
            here = threading.get_ident()
            threads = set()
            for number in range(300):
                future = native.add(name * 1000 + number, 0)
                future.add_done_callback(lambda done: threads.add(threading.get_ident()))
                assert await future == name * 1000 + number
            await asyncio.sleep(0)
            barrier.wait(20)
            kinds.add(type(asyncio.get_running_loop()).__module__)
            results[name] = threads == {here}

        run(new_loop, main())

    gc.collect()  # loops of other tests
    threads = [threading.Thread(target=thread, args=(number,)) for number in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == {0: True, 1: True, 2: True}

    def all_gone():
        # Without a GIL, what the notifier has made for a loop is freed when it next works, or by a collection.
        gc.collect()
        return len(woken_by - eventfds()) == 3 * (1 + (kinds == {"uvloop"}))  # uvloop has one itself

    wait_for(all_gone)  # with their loop, which the notifier may hold for a moment longer


def test_18_a_future_of_one_loop_awaited_in_another_is_refused_and_the_first_goes_on(new_loop):
    ready = threading.Event()
    theirs = {}

    async def elsewhere():
        theirs["promise"], theirs["future"] = native.make_Promise()
        ready.set()
        return await theirs["future"]

    async def main():
        running = asyncio.get_running_loop().run_in_executor(None, run, new_loop, elsewhere())
        await asyncio.to_thread(ready.wait)
        with pytest.raises(RuntimeError, match="belongs to the loop .* and is awaited in"):
            await theirs["future"]
        assert not theirs["future"].done()
        theirs["promise"].set(11)
        return await running

    assert run(new_loop, main()) == 11


def test_50_a_closed_loop_that_takes_calls_and_never_runs_them_is_found_closed(base):
    class QuietLoop(base):
        """Written in another language, it keeps to itself that it is closed: what it holds of ours too."""

        ended = False

        def close(self):
            self.ended = True

        def is_closed(self):
            return self.ended or super().is_closed()

        def call_soon_threadsafe(self, callback, *args, context=None):
            if not self.ended:
                super().call_soon_threadsafe(callback, *args, context=context)

    async def main():
        aiobridge.configure(wakeup="call_soon")
        return native.make_Promise(), native.make_Promise()

    loop = QuietLoop()
    (first, future), (second, never) = loop.run_until_complete(main())
    loop.close()
    # Nothing has told of it so far; a post does.
    first.set_from_thread(1)
    wait_for(lambda: second.reason == "loop_closed")
    assert second.set(2) == "closed"
    for lost in (future, never):
        with pytest.raises(aiobridge.ClosedError):
            lost.result()
    loop.ended = False
    base.close(loop)


SUBSET = [f"test_{name}.py" for name in ("future", "stream", "callback", "hooks")]


@pytest.mark.skipif("AIOBRIDGE_TEST_SANITIZE" in os.environ, reason="runs tests again that the sanitized run has run")
def test_49_loops_without_readers_pass_the_same_tests():
    """The whole of the tests can be run like this; here are those of what every loop does."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", *SUBSET],
        capture_output=True,
        text=True,
        cwd=TESTS,
        check=False,
        env={**os.environ, "AIOBRIDGE_TEST_LOOPS": "no_readers"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
