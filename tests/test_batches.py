"""Many events at a time, as lists and as numpy arrays; and one at a time by name: get and get_nowait."""

import asyncio
import gc
import os

import native
import numpy as np
import pytest
from waiting import Turns, collect

import aiobridge


async def test_batches_of_what_waits():
    writer, stream = native.make_stream()
    for number in range(5):
        writer.push(number)
    writer.close()
    assert await collect(stream.batches(2)) == [[0, 1], [2, 3], [4]]
    assert await collect(stream.batches()) == []


async def test_a_batch_waits_for_its_first_event():
    writer, stream = native.make_stream()
    waiting = asyncio.ensure_future(anext(stream.batches()))
    await asyncio.sleep(0)
    assert not waiting.done()
    writer.push(1)
    assert await waiting == [1]


async def test_a_full_batch_does_not_wait_for_its_delay():
    writer, stream = native.make_stream()
    waiting = asyncio.ensure_future(anext(stream.batches(3, max_delay=1000)))
    for number in range(3):
        await asyncio.sleep(0)
        assert not waiting.done()
        writer.push(number)
    assert await asyncio.wait_for(waiting, 20) == [0, 1, 2]


async def test_a_batch_is_not_larger_than_the_stream_can_hold():
    writer, stream = native.make_stream(capacity=2)
    waiting = asyncio.ensure_future(anext(stream.batches(100, max_delay=1000)))
    await asyncio.sleep(0)
    assert await asyncio.to_thread(writer.push_all, 2) == []
    assert await asyncio.wait_for(waiting, 20) == [0, 1]


async def test_the_delay_counts_from_the_first_event():
    loop = asyncio.get_running_loop()
    writer, stream = native.make_stream()
    batches = stream.batches(100, max_delay=0.05)
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    started = loop.time()
    writer.push(1)
    assert await waiting == [1]
    assert loop.time() - started >= 0.045


async def test_the_end_does_not_wait_for_the_delay():
    writer, stream = native.make_stream()
    waiting = asyncio.create_task(collect(stream.batches(100, max_delay=1000)))
    await asyncio.sleep(0)
    writer.push(1)
    await asyncio.sleep(0)
    writer.close()
    assert await asyncio.wait_for(waiting, 20) == [[1]]


async def test_batches_let_the_loop_turn():
    writer, stream = native.make_stream(capacity=500_000)
    writer.push_all(500_000)
    writer.close()
    turns = Turns()
    assert sum([len(batch) async for batch in stream.batches(100)]) == 500_000
    assert turns.count >= 5


async def test_batches_and_events_take_turns_but_do_not_compete():
    writer, stream = native.make_stream()
    waiting = asyncio.ensure_future(anext(stream.batches()))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="being iterated by another task"):
        await anext(stream)
    with pytest.raises(RuntimeError, match="being iterated by another task"):
        stream.get_nowait()
    writer.push(1)
    assert await waiting == [1]
    writer.push(2)
    assert await anext(stream) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_items": 0}, "batches: max_items is 0; it must be at least 1"),
        ({"max_items": -1}, "batches: max_items is -1; it must be at least 1"),
        ({"max_delay": -0.5}, r"batches: max_delay is -0.5; it must be a number of seconds, at least 0"),
        ({"max_delay": float("nan")}, "max_delay is nan"),
        ({"max_delay": float("inf")}, "max_delay is inf"),
    ],
)
async def test_bad_arguments_are_refused(arguments, message):
    _writer, stream = native.make_stream()
    with pytest.raises(ValueError, match=message):
        stream.batches(**arguments)


async def test_arrays_are_structured():
    native.declare_tick()
    writer, stream = native.make_tick_stream()
    for number in range(5):
        writer.push(number)
    writer.close()
    blocks = await collect(stream.arrays(3))
    assert [len(block) for block in blocks] == [3, 2]
    assert blocks[0].dtype.names == ("ns", "price", "size")
    assert blocks[0].dtype.itemsize == 24
    records = np.concatenate(blocks)
    assert records["ns"].tolist() == [0, 1, 2, 3, 4]
    assert records["price"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert records["size"].tolist() == [1] * 5


async def test_arrays_across_the_end_of_the_circle():
    writer, stream = native.make_stream(capacity=7)
    expected = received = 0
    for count in (5, 7, 3, 6, 7, 1) * 5:
        for number in range(expected, expected + count):
            assert writer.push(number) == "accepted"
        expected += count
        block = await anext(stream.arrays())
        while received + len(block) < expected:
            block = np.concatenate([block, await anext(stream.arrays())])
        assert block.dtype == np.int64
        assert block.tolist() == list(range(received, expected))
        received = expected


async def test_arrays_of_an_unbounded_stream():
    writer, stream = native.make_stream(capacity=1, overflow="unbounded")
    writer.push_all(10_000)
    writer.close()
    assert np.concatenate(await collect(stream.arrays())).tolist() == list(range(10_000))


async def test_what_numpy_cannot_hold_is_refused_at_once():
    _writer, stream = native.make_tracked_stream()
    with pytest.raises(TypeError, match="not trivially copyable; use batches"):
        stream.arrays()
    _writer, stream = native.make_undeclared_stream()
    with pytest.raises(TypeError, match="Undeclared has no numpy dtype; declare it with PYBIND11_NUMPY_DTYPE"):
        stream.arrays()


async def test_the_number_of_allocations_does_not_depend_on_the_number_of_events():
    native.declare_tick()

    async def allocations(events):
        writer, stream = native.make_tick_stream(capacity=100_000)
        writer.push_all(events)
        arrays = stream.arrays(100_000)
        gc.disable()
        native.start_counting_allocations()
        block = await anext(arrays)
        count = native.stop_counting_allocations()
        gc.enable()
        assert len(block) == events
        return count

    await allocations(10)  # imports, caches
    few = await allocations(10)
    assert few > 0
    assert await allocations(100_000) == few


def test_numpy_is_imported_only_when_used(run_python):
    script = """
import asyncio, sys, native
async def main():
    writer, stream = native.make_stream()
    writer.push(1)
    writer.push(2)
    assert await anext(stream) == 1
    assert "numpy" not in sys.modules
    async for block in stream.arrays():
        print(block)
        break
asyncio.run(main())
"""
    done = run_python(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[2]\n", "")


async def test_get_and_get_nowait():
    writer, stream = native.make_stream()
    with pytest.raises(asyncio.QueueEmpty, match="no event of <aiobridge.Stream open"):
        stream.get_nowait()
    waiting = asyncio.ensure_future(stream.get())
    await asyncio.sleep(0)
    writer.push(1)
    writer.push(2)
    writer.push(3)
    assert await waiting == 1
    assert stream.get_nowait() == 2
    writer.close()
    assert await stream.get() == 3
    with pytest.raises(aiobridge.EndOfStream, match="has ended"):
        await stream.get()
    with pytest.raises(EOFError):
        stream.get_nowait()


async def test_get_raises_what_the_writer_failed_with():
    writer, stream = native.make_stream()
    writer.fail("the feed broke")
    with pytest.raises(RuntimeError, match="the feed broke"):
        stream.get_nowait()
    with pytest.raises(aiobridge.EndOfStream):
        stream.get_nowait()


async def test_a_batches_object_keeps_its_stream_and_can_be_shown():
    writer, stream = native.make_stream()
    batches = stream.batches()
    assert repr(batches).startswith("<batches of <aiobridge.Stream open")
    assert repr(stream.arrays()).startswith("<arrays of <aiobridge.Stream open")
    del stream
    gc.collect()
    writer.push(1)
    assert await anext(batches) == [1]
    assert aiter(batches) is batches


# Under sanitizers, which make each access many times as long, fewer.
POLICIES = ["refuse", "block", "drop_oldest", "drop_newest", "conflate", "error", "unbounded"]
EVENTS = 20_000 if os.environ.get("AIOBRIDGE_TEST_SANITIZE") else 1_000_000


@pytest.mark.parametrize("overflow", POLICIES)
def test_eight_producers_with_a_million_events_each_keep_their_order(overflow, new_loop):
    async def main():
        # Policy `error` loses nothing as long as there is room.
        capacity = 8 * EVENTS if overflow == "error" else 65536
        writer, stream = native.make_stream(capacity=capacity, overflow=overflow)
        pushing = asyncio.create_task(asyncio.to_thread(writer.push_all, EVENTS, 8))
        pushing.add_done_callback(lambda _: writer.close())
        last = np.full(8, -1)
        received = 0
        async for block in stream.arrays():
            received += len(block)
            for producer in range(8):
                own = block[block % 8 == producer]
                if len(own):
                    assert own[0] > last[producer]
                    assert (np.diff(own) > 0).all()
                    last[producer] = own[-1]
        refused = await pushing
        stats = stream.stats()
        assert stats.delivered == received
        assert stats.accepted == received + stats.evicted + stats.merged
        assert stats.accepted + stats.dropped == 8 * EVENTS
        assert len(refused) == stats.dropped
        if overflow in ("refuse", "block", "unbounded", "error"):
            assert received == 8 * EVENTS
            assert sorted(last.tolist()) == list(range(8 * EVENTS - 8, 8 * EVENTS))

    loop = new_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
