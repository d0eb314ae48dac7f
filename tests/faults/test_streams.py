"""Who consumes a stream, and how a consumer leaves it."""

import asyncio
import gc

import native
import pytest
from waiting import collect, hooks_have_run, until

EVENTS = 100_000


async def take(stream):
    return await anext(stream)


async def test_38_a_second_consumer_at_the_same_time_is_refused():
    writer, stream = native.make_stream()
    first = asyncio.create_task(take(stream))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match=r"Stream open, 0 waiting, made at streams.*being iterated by another task"):
        await anext(stream)
    writer.push(1)
    assert await first == 1


async def test_39_break_leaves_the_stream_open():
    writer, stream = native.make_stream()
    writer.push(1)
    writer.push(2)
    async for _event in stream:
        break
    assert writer.reason == "open"
    assert not stream.closed
    assert await anext(stream) == 2


async def test_39_dropping_the_stream_tells_the_native_side():
    recorder = native.Recorder()
    writer, stream = native.make_stream(recorder=recorder)
    writer.push(1)
    del stream
    gc.collect()
    assert recorder.wait(1)
    assert recorder.records == ["abandoned on aiobridge-hooks"]
    assert writer.push(2) == "closed"
    assert writer.reason == "abandoned"


async def test_39_what_is_buffered_when_the_consumer_leaves_is_destroyed():
    writer, stream = native.make_tracked_stream(recorder=native.Recorder())
    for number in range(100):
        writer.push(number)
    assert native.Tracked.live == 100
    await stream.aclose()
    await stream.aclose()  # the second comes after the buffer was handed to the hook thread
    assert native.Tracked.live == 0


async def test_38_two_consumers_that_take_turns_get_every_event_once():
    writer, stream = native.make_stream(capacity=64)
    turn = asyncio.Lock()
    received = {"first": [], "second": []}

    async def consume(name):
        while True:
            async with turn:
                try:
                    event = await anext(stream)
                except StopAsyncIteration:
                    return
            received[name].append(event)
            await asyncio.sleep(0)

    writer.push_from_thread(EVENTS)
    await asyncio.gather(consume("first"), consume("second"))  # both come to the end
    assert sorted(received["first"] + received["second"]) == list(range(EVENTS))
    for own in received.values():
        assert own == sorted(own)
        assert len(own) > EVENTS // 4


async def test_38_the_end_is_told_to_every_consumer_that_asks():
    writer, stream = native.make_stream()
    first = asyncio.create_task(take(stream))
    await asyncio.sleep(0)
    writer.close()
    with pytest.raises(StopAsyncIteration):
        await anext(stream) if first.done() else await first
    for _ in range(3):
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def leave(stream, how):
    """Iterates, up to one event, and leaves."""
    if how == "cancelled":
        consuming = asyncio.create_task(collect(stream))
        await until(lambda: stream.qsize() == 0)
        consuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consuming
    elif how == "cancelled in its block":

        async def consume():
            async with stream:
                await collect(stream)

        consuming = asyncio.create_task(consume())
        await until(lambda: stream.qsize() == 0)
        consuming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consuming
    elif how == "break":
        async for _event in stream:
            break
    elif how == "never awaited":
        stream.__anext__()
    elif how == "aclose":
        await anext(stream)
        await stream.aclose()
    elif how == "aclose while it waits":
        consuming = asyncio.create_task(collect(stream))
        await until(lambda: stream.qsize() == 0)
        await stream.aclose()
        assert len(await consuming) == 3
    else:
        assert how == "never started"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cancelled", "abandoned"),
        ("cancelled in its block", "consumer_closed"),
        ("break", "abandoned"),
        ("never awaited", "abandoned"),
        ("never started", "abandoned"),
        ("aclose", "consumer_closed"),
        ("aclose while it waits", "consumer_closed"),
    ],
)
async def test_39_however_a_consumer_leaves_the_producer_learns_it_once_and_nothing_is_kept(how, reason):
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    recorder = native.Recorder()
    before = native.Tracked.live
    writer, stream = native.make_tracked_stream(recorder=recorder)
    for number in range(3):
        assert writer.push(number) == "accepted"
    await leave(stream, how)
    if reason == "abandoned":
        assert writer.push(3) == "accepted"  # the stream is still there
    del stream
    await asyncio.sleep(0)  # what has resumed us refers to the consumer
    gc.collect()
    assert writer.push(4) == "closed"
    assert writer.reason == reason
    await hooks_have_run()
    assert recorder.records == [f"{reason} on aiobridge-hooks"]
    await asyncio.sleep(0)
    gc.collect()
    assert native.Tracked.live == before
    assert contexts == []
