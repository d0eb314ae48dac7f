"""A producer never takes the GIL, whatever its library holds; and a flood of posts is no flood of wakes."""

import asyncio

import native
import pytest

import aiobridge


async def test_posting_with_the_librarys_mutex_held_while_another_thread_wants_it_with_the_gil_held():
    """The deadlock between the GIL and a library's mutex: cannot happen, because no post needs the GIL."""
    library = native.Library(100)
    stream = library.start()
    result = library.result()
    entering = asyncio.create_task(asyncio.to_thread(library.enter_with_gil))
    assert [await anext(stream) for _ in range(100)] == list(range(100))
    assert await result == 100
    await entering


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts what aiobridge asks of it."""

    calls = 0

    def call_soon_threadsafe(self, callback, *args, context=None):
        self.calls += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_burst_of_posts_is_a_few_wakes(threads):
    loop = CountingLoop()

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


def test_the_fd_waker_never_calls_the_loop_from_another_thread():
    loop = CountingLoop()

    async def main():
        aiobridge.configure(wakeup="fd")
        for number in range(100):
            assert await native.add(number, 0) == number
        return loop.calls

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(main()) == 0


async def test_a_burst_does_not_keep_the_loop_from_turning():
    turns = 0

    def count():
        nonlocal turns
        turns += 1
        loop.call_soon(count)

    loop = asyncio.get_running_loop()
    burst = native.Burst()
    futures = burst.make(50_000)
    waiting = asyncio.gather(*futures)
    await asyncio.sleep(0)
    count()
    burst.go(2)
    burst.join()  # everything is posted before the loop's next turn
    turns = 0
    await waiting
    # 512 items a drain at most.
    assert turns >= 50_000 // 512


def test_wakes_are_not_lost_one_at_a_time(new_loop):
    async def main():
        for number in range(2000):
            assert await native.add(number, 0) == number

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
