"""A producer never takes the GIL, whatever its library holds; and a flood of posts is no flood of wakes."""

import asyncio
import sys
import time

import native


async def test_posting_with_the_librarys_mutex_held_while_another_thread_wants_it_with_the_gil_held():
    """The deadlock between the GIL and a library's mutex: cannot happen, because no post needs the GIL."""
    library = native.Library(100)
    stream = library.start()
    result = library.result()
    entering = asyncio.create_task(asyncio.to_thread(library.enter_with_gil))
    assert [await anext(stream) for _ in range(100)] == list(range(100))
    assert await result == 100
    await entering


def test_a_thousand_posts_return_while_python_holds_the_gil(new_loop):
    """They return before the spin ends: if one of them waited for the GIL, none would be counted inside the spin."""

    async def main():
        poster = native.Poster()
        futures = poster.start(1000)
        waiting = asyncio.gather(*futures)
        await asyncio.sleep(0)
        poster.go()
        rounds = 0
        deadline = time.monotonic() + 20
        while not poster.finished and time.monotonic() < deadline:
            rounds += 1  # no await: the loop's thread keeps computing
        assert poster.finished, "the posts wait for the loop's thread"
        assert not futures[0].done()
        assert await waiting == list(range(1000))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # nobody gets the GIL from us by asking
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    finally:
        sys.setswitchinterval(interval)


def test_wakes_are_not_lost_one_at_a_time(new_loop):
    async def main():
        for number in range(2000):
            assert await native.add(number, 0) == number

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
