"""The descriptor that wakes a loop: full, interrupted, written by others, recycled."""

import asyncio
import gc
import os
import select
import sys

import native
import pytest
from descriptors import eventfds
from forking import needs_fork_with_threads
from loops import LoopWithoutReaders
from waiting import until, wait_for

import aiobridge

WAKES = 2000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for eventfds in /proc")


@pytest.fixture
def loop(new_loop):
    loop = new_loop()
    yield loop
    loop.close()


@pytest.fixture
def descriptor(loop):
    """What wakes the loop (or, with call_soon, is watched for its end alone)."""
    if isinstance(loop, LoopWithoutReaders):
        pytest.skip("nothing watches a descriptor in a loop without readers")

    async def use():
        await native.nothing()

    wait_for(lambda: gc.collect() is not None and not aiobridge.stats().loops)  # or a number would be used again
    before = eventfds()
    loop.run_until_complete(use())
    (descriptor,) = eventfds() - before
    return descriptor


def test_32_a_full_counter_loses_no_wake(loop, descriptor):
    """A write to it fails with EAGAIN: it is readable, which is all that is wanted."""
    os.write(descriptor, (2**64 - 2).to_bytes(8, sys.byteorder))
    with pytest.raises(BlockingIOError):
        os.write(descriptor, (1).to_bytes(8, sys.byteorder))

    async def make():
        return native.make_Promise()

    promise, future = loop.run_until_complete(make())  # takes what is in the counter
    os.write(descriptor, (2**64 - 2).to_bytes(8, sys.byteorder))
    promise.set(1)

    async def wait():
        assert await future == 1
        for number in range(100):
            assert await native.add(number, 0) == number

    loop.run_until_complete(asyncio.wait_for(wait(), 20))


def test_32_a_storm_of_signals_loses_no_wake(run_python, wakeup, loop_class):
    """In a process of its own, because the storm takes the timer with which tests are timed."""
    done = run_python(
        f"""
import asyncio, signal
import aiobridge, native

async def main():
    for number in range({WAKES}):
        assert await native.add(number, 0) == number
    # Posts of other threads while the signals go on, which any thread may get.
    writer, stream = native.make_stream(capacity=16, overflow="block")
    writer.push_from_thread({WAKES})
    assert [event async for event in stream] == list(range({WAKES}))

signals = 0
def count(number, frame):
    global signals
    signals += 1

signal.signal(signal.SIGALRM, count)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
with asyncio.Runner(loop_factory={loop_class}) as runner:
    runner.run(asyncio.wait_for(main(), 20))
signal.setitimer(signal.ITIMER_REAL, 0)
print(signals > 10)
""",
        wakeup=wakeup,
        timeout=40,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


def is_readable(descriptor):
    return bool(select.select([descriptor], [], [], 0)[0])


def test_33_a_wake_with_nothing_to_deliver_is_nothing(loop, descriptor):
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def use():
        return await native.add(1)

    async def rest():
        await until(lambda: not is_readable(descriptor))  # the wake was taken
        for _ in range(3):
            await asyncio.sleep(0)

    loop.run_until_complete(rest())
    before = aiobridge.stats()
    for _ in range(3):
        os.write(descriptor, (1).to_bytes(8, sys.byteorder))
        assert is_readable(descriptor)
        loop.run_until_complete(rest())
    after = aiobridge.stats()
    assert (after.wakes, after.drains, after.deliveries) == (before.wakes, before.drains, before.deliveries)
    assert contexts == []
    assert loop.run_until_complete(asyncio.wait_for(use(), 20)) == 2


def nothing_to_read(descriptors):
    for descriptor in descriptors:
        os.set_blocking(descriptor, False)
        with pytest.raises(BlockingIOError):
            os.read(descriptor, 8)


@pytest.mark.parametrize("make", [os.pipe, lambda: (os.eventfd(0),)], ids=["pipes", "eventfds"])
def test_34_late_posts_never_reach_a_recycled_descriptor(new_loop, make):
    async def main():
        await native.nothing()
        return native.make_Promise(), native.make_stream()

    before = eventfds()
    loop = new_loop()
    (promise, future), (writer, stream) = loop.run_until_complete(main())
    loop.close()
    recycled = [make() for _ in range(20)]
    try:
        assert promise.set(1) == "closed"
        assert writer.push(1) == writer.push_in_thread(2) == "closed"
        writer.fail("late")
        nothing_to_read(ends[0] for ends in recycled)
    finally:
        for ends in recycled:
            for descriptor in ends:
                os.close(descriptor)
    del promise, future, writer, stream
    # All of aiobridge's are closed: the notifier may not have let go of the bridge yet; or, without a GIL, has called
    # the loop while that was closed, and they are garbage.
    wait_for(lambda: gc.collect() is not None and eventfds() <= before)


def test_34_a_producer_that_posts_while_the_loop_is_closed_never_reaches_a_recycled_descriptor(new_loop):
    for _ in range(20):
        loop = new_loop()

        async def main():
            burst = native.Burst()
            futures = burst.make(2000)
            burst.go(2)
            await futures[0]
            return burst, futures

        burst, futures = loop.run_until_complete(main())
        loop.close()
        recycled = [os.eventfd(0) for _ in range(5)]
        burst.join()
        nothing_to_read(recycled)
        for descriptor in recycled:
            os.close(descriptor)
        assert all(future.done() for future in futures)
        del burst, futures


@needs_fork_with_threads
def test_34_a_child_process_never_writes_to_a_descriptor_of_its_own_through_what_it_inherited(
    run_python, wakeup, loop_class
):
    done = run_python(
        f"""
import asyncio, os, warnings, aiobridge, native
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while there are threads, from Python 3.12 on
Loop = {loop_class}

async def main():
    promise, future = native.make_Promise()
    writer, stream = native.make_stream()
    child = os.fork()
    if child == 0:
        recycled = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(20)]
        fates = promise.set(1), writer.push(1), writer.push_in_thread(2)
        for descriptor in recycled:
            try:
                os.read(descriptor, 8)
                os._exit(2)
            except BlockingIOError:
                pass
        os._exit(0 if fates == ("closed", "closed", "closed") else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    promise.set(2)
    print(await future)

with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main())
""",
        wakeup=wakeup,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n2\n", "", 0)
