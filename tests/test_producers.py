"""A producer never takes the GIL, whatever its library holds; and a flood of posts is no flood of wakes."""

import asyncio

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


def test_wakes_are_not_lost_one_at_a_time(new_loop):
    async def main():
        for number in range(2000):
            assert await native.add(number, 0) == number

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
