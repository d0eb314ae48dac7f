"""Many posts at once: a few wakes, bounded memory, and a loop that goes on turning."""

import asyncio
import gc
import time

import native
import pytest
from sizes import SANITIZER
from waiting import Turns

import aiobridge

BURST = 1_000_000
# AddressSanitizer keeps what is freed, and gives it back all at once.
LONGEST_GAP = 0.1 if SANITIZER else 0.005


class TimedTurns(Turns):
    """Turns of the loop, and the longest time between two of them.

    It is the time that this thread ran: when it does not is the machine's affair.
    """

    def __init__(self):
        super().__init__()
        self.longest = 0.0
        self._last = time.thread_time()

    def _turn(self):
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        super()._turn()


async def gaps_of(burst):
    """The longest gap of each burst, up to the first burst in which it is short enough, or of three.

    What keeps the loop from turning does so in each of them. A virtual machine may be stopped in any, and its threads'
    clocks go on.
    """
    gaps = []
    while len(gaps) < 3 and min(gaps, default=LONGEST_GAP) >= LONGEST_GAP:
        gaps.append(await burst())
    return gaps


@pytest.fixture
def uncollected():
    """Without the garbage collector, which takes as long as there are objects."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def counting_loop(loop_type):
    class CountingLoop(loop_type):
        """Counts what aiobridge asks of it."""

        calls = 0

        def call_soon_threadsafe(self, callback, *args, context=None):
            self.calls += 1
            return super().call_soon_threadsafe(callback, *args, context=context)

    return CountingLoop()


@pytest.mark.timeout(180)  # in development mode each Future notes where it was made
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


# Fails if a drain delivers all that it finds
@pytest.mark.usefixtures("uncollected")
async def test_31_a_burst_does_not_keep_the_loop_from_turning():
    async def burst():
        posts = native.Burst()
        futures = posts.make(50_000)
        remaining, all_received = set(range(len(futures))), asyncio.Event()

        async def wait(future):
            remaining.remove(await future)
            if not remaining:
                all_received.set()

        tasks = [asyncio.create_task(wait(future)) for future in futures]
        await asyncio.sleep(0)
        before = aiobridge.stats().wakes
        posts.go(2)
        posts.join()  # everything is posted before the loop's next turn
        turns = TimedTurns()
        await all_received.wait()
        # 512 items a drain at most.
        assert turns.count >= len(tasks) // 512
        assert aiobridge.stats().wakes - before == 1
        return turns.longest

    assert min(await gaps_of(burst)) < LONGEST_GAP


def test_31_the_fd_waker_never_calls_the_loop_from_another_thread(counting_loop):
    loop = counting_loop

    async def main():
        aiobridge.configure(wakeup="fd")
        for number in range(100):
            assert await native.add(number, 0) == number
        return loop.calls

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main()) == 0


# Fails if a consumer that always finds events never gives the loop back
@pytest.mark.usefixtures("uncollected")
async def test_31_a_burst_of_a_million_events_waits_as_one_wake_and_is_taken_in_turns():
    async def burst():
        writer, stream = native.make_stream(overflow="unbounded")
        latest = [-2, -1]

        async def consume():
            async for number in stream:  # not into a list, which moves its megabytes as it grows
                thread = number % 2
                assert number == latest[thread] + 2
                latest[thread] = number

        consuming = asyncio.create_task(consume())
        await asyncio.sleep(0)
        before = aiobridge.stats()
        assert writer.push_all(BURST // 2, 2) == []  # all of them before the loop's next turn
        assert aiobridge.stats().wakes - before.wakes == 1
        writer.drop()
        turns = TimedTurns()
        await consuming
        assert latest == [BURST - 2, BURST - 1]
        # The stream waits once for all of them; the consumer gives the loop back once in a millisecond.
        assert aiobridge.stats().deliveries - before.deliveries == 1
        return turns.longest

    assert min(await gaps_of(burst)) < LONGEST_GAP


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
