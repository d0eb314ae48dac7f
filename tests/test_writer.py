"""make_stream: Python code on any thread fills a Stream."""

import asyncio
import gc
import threading
import weakref

import native
import pytest
from waiting import collect, until

import aiobridge
from aiobridge import CloseReason, Fate


class Thing:
    """Something that weak references can point to."""


async def test_events_of_threads_keep_their_order():
    writer, stream = aiobridge.make_stream(overflow="unbounded")

    def produce(thread, writer):
        for number in range(5_000):
            assert writer.push((thread, number)) is Fate.ACCEPTED

    threads = [threading.Thread(target=produce, args=(thread, writer)) for thread in range(4)]
    for thread in threads:
        thread.start()
    del writer  # the threads have it; the last one ends the stream
    del threads
    received = {thread: [] for thread in range(4)}
    async for thread, number in stream:
        received[thread].append(number)
    assert received == {thread: list(range(5_000)) for thread in range(4)}


async def test_the_same_object_comes_out_and_is_not_kept():
    writer, stream = aiobridge.make_stream()
    thing = Thing()
    gone = weakref.ref(thing)
    writer.push(thing)
    del thing
    assert await anext(stream) is gone()
    assert gone() is None


@pytest.mark.parametrize(
    ("overflow", "fates", "taken"),
    [
        ("refuse", ["accepted", "accepted", "full", "full"], [0, 1]),
        ("drop_oldest", ["accepted", "accepted", "evicted_oldest", "evicted_oldest"], [2, 3]),
        ("drop_newest", ["accepted", "accepted", "dropped", "dropped"], [0, 1]),
        ("conflate", ["accepted", "accepted", "merged", "merged"], [0, 3]),
        ("unbounded", ["accepted"] * 4, [0, 1, 2, 3]),
        ("error", ["accepted", "accepted", "full", "closed"], [0, 1]),
    ],
)
async def test_overflow_policies(overflow, fates, taken):
    writer, stream = aiobridge.make_stream(2, overflow)
    things = [Thing() for _ in range(4)]
    assert [writer.push(thing) for thing in things] == fates
    writer.close()
    numbers = {id(thing): number for number, thing in enumerate(things)}
    gone = [weakref.ref(thing) for thing in things]
    del things
    # What is not in the buffer is freed by now, on the thread that pushed.
    assert [number for number, reference in enumerate(gone) if reference() is not None] in (taken, [*taken, 3])
    received = []
    try:
        async for thing in stream:
            received.append(numbers[id(thing)])
    except aiobridge.StreamOverflow:
        assert overflow == "error"
    assert received == taken
    del thing
    assert not any(reference() for reference in gone)
    stats = stream.stats()
    assert stats.accepted == stats.delivered + stats.evicted + stats.merged


async def test_a_blocked_push_waits_without_the_gil_until_there_is_room():
    writer, stream = aiobridge.make_stream(1, "block")
    writer.push(0)
    fates = []
    thread = threading.Thread(target=lambda: fates.append(writer.push(1)))
    thread.start()
    assert await anext(stream) == 0
    assert await anext(stream) == 1
    thread.join()
    assert fates == [Fate.ACCEPTED]
    writer.push(2)
    assert writer.push(3) is Fate.WOULD_DEADLOCK  # here, on the loop's thread


async def test_a_blocked_push_times_out():
    writer, stream = aiobridge.make_stream(1, "block", timeout=0.001)
    writer.push(0)
    assert await asyncio.to_thread(writer.push, 1) is Fate.TIMED_OUT
    assert stream.dropped == 1


async def test_a_blocked_push_is_released_by_the_consumers_end():
    writer, stream = aiobridge.make_stream(1, "block")
    writer.push(0)
    fates = []
    thread = threading.Thread(target=lambda: fates.append(writer.push(1)))
    thread.start()
    await stream.aclose()
    thread.join()
    assert fates == [Fate.CLOSED]
    assert writer.close_reason() is CloseReason.CONSUMER_CLOSED


async def test_fail_comes_after_what_is_buffered_and_abort_instead_of_it():
    for end, received in (("fail", [1, 2]), ("abort", [])):
        writer, stream = aiobridge.make_stream()
        writer.push(1)
        writer.push(2)
        assert getattr(writer, end)(LookupError("gone"))
        assert not writer.close()
        taken = []
        with pytest.raises(LookupError, match="gone"):
            async for event in stream:
                taken.append(event)
        assert taken == received
        assert await collect(stream) == []
        with pytest.raises(TypeError, match="takes an exception, not"):
            getattr(writer, end)("gone")


async def test_abort_without_an_exception():
    writer, stream = aiobridge.make_stream()
    writer.push(1)
    assert writer.abort()
    with pytest.raises(aiobridge.BrokenStreamError, match=r"test_writer\.py:\d+ was aborted"):
        await anext(stream)


async def test_as_a_context_manager_it_closes_or_fails():
    writer, stream = aiobridge.make_stream()
    with writer as entered:
        assert entered is writer
        writer.push(1)
    assert await collect(stream) == [1]
    writer, stream = aiobridge.make_stream()
    with pytest.raises(LookupError), writer:
        writer.push(1)
        raise LookupError("the feed is gone")
    assert await anext(stream) == 1
    with pytest.raises(LookupError, match="the feed is gone"):
        await anext(stream)


async def test_watermarks():
    writer, stream = aiobridge.make_stream(4, high_watermark=3, low_watermark=1)
    calls = []
    for number in range(3):
        assert writer.ready()
        writer.push(number)
    assert not writer.ready()
    writer.on_ready(calls.append)
    assert await anext(stream) == 0
    assert not writer.ready()
    assert await anext(stream) == 1
    assert writer.ready()
    await until(lambda: calls)
    assert calls == [CloseReason.OPEN]


@pytest.mark.parametrize("how", ["dropped", "aclose", "referred to by the error"])
async def test_an_error_that_nobody_meets_goes_with_the_consumer(how):
    """Its traceback holds the writer, as that of every exception which leaves the writer's block."""
    before = aiobridge.stats().streams

    def fail(writer, _stream):
        with writer:
            raise ValueError

    writer, stream = aiobridge.make_stream()
    with pytest.raises(ValueError):  # noqa: PT011
        fail(writer, stream if how == "referred to by the error" else None)
    if how == "aclose":
        await stream.aclose()
        assert await collect(stream) == []
    del writer
    if how != "aclose":
        del stream
    gc.collect()
    if how == "aclose":
        del stream
    await until(lambda: aiobridge.stats().streams <= before)


async def test_an_event_that_refers_to_its_stream_is_no_leak():
    writer, stream = aiobridge.make_stream()
    thing = Thing()
    thing.stream = stream
    gone = weakref.ref(thing), weakref.ref(stream)
    writer.push(thing)
    del thing, stream
    gc.collect()
    await until(lambda: not any(reference() for reference in gone))
    assert writer.close_reason() is CloseReason.ABANDONED
    # A tuple cannot be cleared, so only the stream can break the circle.
    writer, stream = aiobridge.make_stream()
    writer.push((stream,))
    del stream
    gc.collect()
    await until(lambda: writer.close_reason() is CloseReason.ABANDONED)
    # And one that is still wanted stays.
    writer, stream = aiobridge.make_stream()
    thing = Thing()
    thing.stream = stream
    writer.push(thing)
    del thing
    gc.collect()
    assert (await anext(stream)).stream is stream


@pytest.mark.parametrize("make", [aiobridge.make_stream, native.make_stream], ids=["python", "native"])
async def test_on_close_is_called_once_and_waited_for(make):
    writer, stream = make()
    calls = []
    stream.on_close(calls.append)
    async with stream:
        writer.push(1)
        assert await anext(stream) == 1
    assert calls == [CloseReason.CONSUMER_CLOSED]
    stream.on_close(calls.append)  # late: soon
    await until(lambda: len(calls) > 1)
    await stream.aclose()
    assert calls == [CloseReason.CONSUMER_CLOSED] * 2


async def test_a_loop_that_is_closed_tells_the_hook(new_loop):
    calls = []

    async def make():
        writer, stream = aiobridge.make_stream()
        stream.on_close(calls.append)
        return writer, stream

    def run():
        loop = new_loop()
        kept = loop.run_until_complete(make())
        loop.close()
        return kept

    writer, _stream = await asyncio.to_thread(run)
    await until(lambda: calls)
    assert calls == [CloseReason.LOOP_CLOSED]
    assert writer.push(1) is Fate.CLOSED


async def test_batches_of_objects_and_no_arrays():
    writer, stream = aiobridge.make_stream()
    for event in (1, "two", None):
        writer.push(event)
    writer.close()
    with pytest.raises(TypeError, match="numpy"):
        stream.arrays()
    assert [batch async for batch in stream.batches()] == [[1, "two", None]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"capacity": 0}, "capacity is 0; a stream holds at least 1"),
        ({"capacity": -1}, "capacity is -1; a stream holds at least 1"),
        ({"overflow": "spill"}, "overflow is 'spill'; it is one of 'refuse'"),
        ({"timeout": -1}, "timeout is -1; it is a number of seconds, or None"),
        ({"timeout": float("nan")}, "timeout is nan; it is a number of seconds"),
        ({"high_watermark": 2000}, "the watermarks are 0 and 2000; the low one must be below"),
        ({"high_watermark": 2, "low_watermark": 2}, "the watermarks are 2 and 2"),
    ],
)
async def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        aiobridge.make_stream(**options)


def test_without_a_loop():
    with pytest.raises(RuntimeError, match=r"stream made at .*test_writer\.py:\d+ has no loop"):
        aiobridge.make_stream()


async def test_reprs_tell_state_and_place():
    writer, _stream = aiobridge.make_stream()
    writer.push(1)
    assert repr(writer).startswith("<aiobridge.Writer open, 1 waiting, made at test_writer.py:")
