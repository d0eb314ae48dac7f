"""aiobridge.Stream: events in order, none lost, one end."""

import asyncio
import gc
import itertools

import native
import pytest
from waiting import Turns, collect

import aiobridge


async def take(stream):
    return await anext(stream)


async def test_events_of_a_native_thread_arrive_in_order():
    assert await collect(native.numbers(10_000)) == list(range(10_000))


async def test_a_stream_of_no_events_ends():
    assert await collect(native.numbers(0)) == []


async def test_events_that_wait_are_taken_without_a_turn_of_the_loop():
    writer, stream = native.make_stream()
    for number in range(10):
        writer.push(number)
    writer.close()
    turns = Turns()
    assert await collect(stream) == list(range(10))
    assert turns.count == 0


async def test_a_consumer_that_always_finds_events_lets_the_loop_turn():
    turns = Turns()
    writer, stream = native.make_stream(capacity=500_000)
    writer.push_all(500_000)
    writer.close()
    assert len(await collect(stream)) == 500_000
    assert turns.count >= 5


@pytest.mark.parametrize("capacity", [1, 2, 3, 1000])
async def test_refuse_answers_full_at_exactly_the_capacity(capacity):
    writer, stream = native.make_stream(capacity=capacity)
    assert [writer.push(number) for number in range(capacity)] == ["accepted"] * capacity
    assert writer.push(-1) == "full"
    assert stream.qsize() == capacity
    assert await anext(stream) == 0
    assert writer.push(capacity) == "accepted"
    assert writer.push(-1) == "full"
    writer.close()
    assert await collect(stream) == list(range(1, capacity + 1))
    assert stream.dropped == 2


@pytest.mark.parametrize("capacity", [1, 2, 3, 1000])
async def test_drop_oldest_evicts_exactly_what_must_go(capacity):
    writer, stream = native.make_stream(capacity=capacity, overflow="drop_oldest")
    fates = [writer.push(number) for number in range(capacity + 5)]
    assert fates == ["accepted"] * capacity + ["evicted_oldest"] * 5
    assert stream.dropped == 5
    writer.close()
    assert await collect(stream) == list(range(5, capacity + 5))


@pytest.mark.parametrize("make", [native.make_stream, native.make_tracked_stream])
@pytest.mark.parametrize("overflow", ["refuse", "drop_oldest", "unbounded"])
async def test_many_events_pushed_at_once_are_as_many_pushes(make, overflow):
    """Around the end of the ring, where they lie in two pieces, and for events that are moved one by one."""
    writer, stream = make(capacity=8, overflow=overflow)
    number = expected = 0
    for count in (5, 3, 0, 8, 20, 1, 8):
        room = count if overflow != "refuse" else min(count, 8)
        fate = {"refuse": "full", "drop_oldest": "evicted_oldest", "unbounded": "accepted"}[overflow]
        assert writer.push_many(number, count) == (room, "accepted" if count <= 8 else fate)
        kept = min(room, 8) if overflow == "drop_oldest" else room
        expected = number + room - kept
        for _ in range(kept):
            event = stream.get_nowait()
            assert getattr(event, "number", event) == expected
            expected += 1
        number += count
    assert stream.qsize() == 0


async def test_many_events_pushed_at_once_wake_a_consumer_that_sleeps():
    writer, stream = native.make_stream(capacity=100)
    taking = asyncio.create_task(take(stream.batches(50)))
    await asyncio.sleep(0)
    writer.push_many(0, 100)
    assert await taking == list(range(50))


async def test_many_events_larger_than_one_copy_arrive_in_order():
    """A million bytes, which the buffer takes in pieces."""
    writer, stream = native.make_stream(capacity=200_000)
    assert writer.push_many(0, 150_000) == (150_000, "accepted")
    writer.close()
    assert await collect(stream) == list(range(150_000))


async def test_many_producers_keep_their_order():
    writer, stream = native.make_stream(capacity=256)
    pushing = asyncio.create_task(asyncio.to_thread(writer.push_all, 20_000, 8))
    received = list(itertools.islice([await anext(stream) for _ in range(160_000)], 160_000))
    assert await pushing == []
    assert sorted(received) == list(range(160_000))
    for producer in range(8):
        own = [number for number in received if number % 8 == producer]
        assert own == sorted(own)


async def test_drop_oldest_with_many_producers_accounts_for_every_event():
    writer, stream = native.make_tracked_stream(capacity=64, overflow="drop_oldest")
    received = []

    async def consume():
        async for event in stream:
            received.append(event.number)

    consuming = asyncio.create_task(consume())
    assert await asyncio.to_thread(writer.push_all, 20_000, 4) == []
    writer.close()
    await consuming
    assert len(received) + stream.dropped == 80_000
    assert len(set(received)) == len(received)
    for producer in range(4):
        own = [number for number in received if number % 4 == producer]
        assert own == sorted(own)
    assert native.Tracked.live == 0


async def test_close_comes_after_what_was_pushed():
    writer, stream = native.make_stream()
    writer.push(1)
    assert writer.close()
    assert not writer.close()
    assert writer.push(2) == "closed"
    assert writer.reason == "finished"
    assert await collect(stream) == [1]
    assert await collect(stream) == []


async def test_the_last_writer_gone_ends_the_stream():
    writer, stream = native.make_stream()
    other = writer.copy()
    writer.push(1)
    writer.drop()
    other.push(2)
    consuming = asyncio.create_task(collect(stream))
    await asyncio.sleep(0)
    assert not consuming.done()
    other.drop()
    assert await consuming == [1, 2]


async def test_fail_raises_once_after_what_was_pushed():
    writer, stream = native.make_stream()
    writer.push(1)
    assert writer.fail("the feed broke")
    assert not writer.fail("again")
    assert writer.reason == "failed"
    assert await anext(stream) == 1
    with pytest.raises(RuntimeError, match="the feed broke"):
        await anext(stream)
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_fail_wakes_a_consumer_that_waits():
    writer, stream = native.make_stream()
    waiting = asyncio.create_task(collect(stream))
    await asyncio.sleep(0)
    writer.fail("the feed broke")
    with pytest.raises(RuntimeError, match="the feed broke"):
        await waiting


async def test_leaving_the_block_closes_and_waits_for_the_hook():
    recorder = native.Recorder()
    writer, stream = native.make_stream(recorder=recorder)
    async with stream as events:
        assert events is stream
        writer.push(1)
        writer.push(2)
        assert await anext(events) == 1
        assert recorder.records == []
    assert recorder.records == ["consumer_closed on aiobridge-hooks"]
    assert writer.push(3) == "closed"
    assert writer.reason == "consumer_closed"
    assert await collect(stream) == []
    assert stream.qsize() == 0


async def test_an_exception_passes_through_the_block():
    recorder = native.Recorder()
    writer, stream = native.make_stream(recorder=recorder)
    with pytest.raises(KeyError):
        async with stream:
            raise KeyError
    assert recorder.records == ["consumer_closed on aiobridge-hooks"]
    assert writer.push(1) == "closed"


async def test_aclose_any_number_of_times_and_the_hook_once():
    recorder = native.Recorder()
    _writer, stream = native.make_stream(recorder=recorder)
    await asyncio.gather(stream.aclose(), stream.aclose())
    await stream.aclose()
    assert recorder.records == ["consumer_closed on aiobridge-hooks"]


async def test_the_hook_runs_once_when_the_writer_closed_first():
    recorder = native.Recorder()
    writer, stream = native.make_stream(recorder=recorder)
    writer.close()
    await stream.aclose()
    assert recorder.records == ["finished on aiobridge-hooks"]
    del writer, stream
    gc.collect()
    await native.make_stream()[1].aclose()
    assert recorder.records == ["finished on aiobridge-hooks"]


async def test_aclose_ends_the_wait_of_the_consumer():
    _writer, stream = native.make_stream()
    waiting = asyncio.create_task(collect(stream))
    await asyncio.sleep(0)
    await stream.aclose()
    assert await waiting == []


async def test_an_anext_is_awaited_once():
    writer, stream = native.make_stream()
    writer.push(1)
    writer.push(2)
    step = anext(stream)
    assert await step == 1
    with pytest.raises(RuntimeError, match="awaited twice"):
        await step
    assert await anext(stream) == 2


async def test_a_stream_is_one_python_object_however_often_it_is_returned():
    first, second = native.stream_twice()
    assert first is second


def test_a_stream_needs_a_running_loop_and_tells_the_native_side_otherwise():
    recorder = native.Recorder()
    with pytest.raises(
        RuntimeError, match="has no loop to belong to.*call the function that returns it from a coroutine"
    ):
        native.make_stream(recorder=recorder)
    assert recorder.wait(1)
    assert len(recorder.records) == 1


async def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="capacity is 0; a stream holds at least 1"):
        native.make_stream(capacity=0)
    with pytest.raises(TypeError):
        native.make_stream(capacity=-1)
    with pytest.raises(ValueError, match="capacity is .* at most"):
        native.make_stream(capacity=2**40)
    with pytest.raises(ValueError, match="overflow policy 77 is not known to aiobridge"):
        native.make_stream(overflow="unheard of")


async def test_a_stream_of_another_loop_is_refused():
    theirs = []

    async def elsewhere():
        theirs.extend(native.make_stream())

    await asyncio.to_thread(asyncio.run, elsewhere())
    writer, stream = theirs
    assert writer.push(1) == "closed"
    assert writer.reason == "loop_closed"
    with pytest.raises(aiobridge.ClosedError, match="loop of .* was closed"):
        await anext(stream)


async def test_what_a_thread_pushed_before_its_result_is_readable_when_the_result_is():
    for _ in range(200):
        stream, future = native.event_then_result()
        assert await future == 2
        assert stream.qsize() == 1
        assert await anext(stream) == 1


def test_events_that_the_loop_took_with_it_are_not_passed_over_in_silence(new_loop):
    async def make():
        writer, stream = native.make_stream()
        writer.push(1)
        writer.close()
        return stream

    loop = new_loop()
    stream = loop.run_until_complete(make())
    loop.close()
    with pytest.raises(aiobridge.ClosedError, match="before its end was reached"):
        asyncio.run(take(stream))


async def test_the_closed_loop_hook_reason():
    recorder = native.Recorder()

    async def elsewhere():
        return native.make_stream(recorder=recorder)

    _writer, _stream = await asyncio.to_thread(asyncio.run, elsewhere())
    assert await asyncio.to_thread(recorder.wait, 1)
    assert recorder.records == ["loop_closed on aiobridge-hooks"]


async def test_a_million_events_and_no_native_object_left():
    writer, stream = native.make_stream(capacity=4096)
    writer.push_from_thread(1_000_000)
    count = total = 0
    async for number in stream:
        count += 1
        total += number
    assert (count, total) == (1_000_000, 499_999_500_000)
