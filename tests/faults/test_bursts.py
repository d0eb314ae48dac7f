"""Many posts at once: a few wakes, bounded memory, and a loop that goes on turning."""

import asyncio
import time

import native
import pytest
from waiting import Turns, collect

import aiobridge

BURST = 1_000_000


@pytest.fixture
def counting_loop(loop_type):
    class CountingLoop(loop_type):
        """Counts what aiobridge asks of it."""

        calls = 0

        def call_soon_threadsafe(self, callback, *args, context=None):
            self.calls += 1
            return super().call_soon_threadsafe(callback, *args, context=context)

    return CountingLoop()


@pytest.mark.parametrize("threads", [1, 2])
def test_31_a_burst_of_posts_is_a_few_wakes(counting_loop, threads):
    loop = counting_loop

    async def main():
        aiobridge.configure(wakeup="call_soon")
        burst = native.Burst()
        futures = burst.make(100_000)
        before = loop.calls
        burst.go(threads)
        total = 0
        for future in futures:
            total += await future
        assert total == 4_999_950_000
        calls = loop.calls - before
        burst.join()
        return calls

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert 1 <= runner.run(main()) <= 100


async def test_31_a_burst_does_not_keep_the_loop_from_turning():
    burst = native.Burst()
    futures = burst.make(50_000)
    waiting = asyncio.gather(*futures)
    await asyncio.sleep(0)
    before, turns = aiobridge.stats().wakes, Turns()
    burst.go(2)
    burst.join()  # everything is posted before the loop's next turn
    await waiting
    # 512 items a drain at most.
    assert turns.count >= 50_000 // 512
    assert aiobridge.stats().wakes - before == 1


def test_31_the_fd_waker_never_calls_the_loop_from_another_thread(counting_loop):
    loop = counting_loop

    async def main():
        aiobridge.configure(wakeup="fd")
        for number in range(100):
            assert await native.add(number, 0) == number
        return loop.calls

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main()) == 0


async def test_31_a_burst_of_a_million_events_waits_as_one_wake_and_is_taken_in_turns():
    """All of them are pushed before the loop's next turn."""
    writer, stream = native.make_stream(overflow="unbounded")
    consuming = asyncio.create_task(collect(stream))
    await asyncio.sleep(0)
    before, turns = aiobridge.stats(), Turns()
    assert writer.push_all(BURST // 2, 2) == []
    begun = time.thread_time()
    assert aiobridge.stats().wakes - before.wakes == 1
    writer.drop()
    received = await consuming
    seconds, after = time.thread_time() - begun, aiobridge.stats()
    assert len(received) == len(set(received)) == BURST
    for thread in range(2):
        own = [number for number in received if number % 2 == thread]
        assert own == sorted(own)
    # The stream waits once for all of them; the consumer gives the loop back once in a millisecond. (Time in which this
    # thread did not run is the machine's affair.)
    assert after.deliveries - before.deliveries == 1
    assert seconds / turns.count < 0.005


@pytest.mark.parametrize(
    ("overflow", "refused", "first"),
    [("refuse", "full", 0), ("drop_newest", "dropped", 0), ("drop_oldest", None, BURST - 1000)],
)
async def test_31_a_burst_of_a_million_events_takes_the_memory_that_the_policy_gives_it(overflow, refused, first):
    before = aiobridge.stats()
    stream, most = native.tracked_burst(BURST, 1000, overflow)
    assert aiobridge.stats().wakes == before.wakes  # nobody waits for them
    assert most <= 1000 + 1  # and the one that was refused
    assert stream.qsize() == native.Tracked.live == 1000
    figures = stream.stats()
    assert figures.accepted - figures.evicted == 1000
    if refused:
        assert getattr(figures, refused) == BURST - 1000
    else:
        assert figures.accepted == BURST
    assert [event.number async for event in stream] == list(range(first, first + 1000))
