"""What a stream does with an event when as many as it holds wait."""

import asyncio
import gc
import threading

import native
import pytest
from waiting import collect

import aiobridge


def balanced(stats):
    return stats.accepted == stats.delivered + stats.evicted + stats.merged + stats.undelivered + stats.pending


async def test_drop_newest_refuses_the_young():
    writer, stream = native.make_stream(capacity=2, overflow="drop_newest")
    assert [writer.push(number) for number in range(4)] == ["accepted", "accepted", "dropped", "dropped"]
    assert stream.dropped == 2
    assert await anext(stream) == 0
    assert writer.push(4) == "accepted"
    writer.close()
    assert await collect(stream) == [1, 4]


async def test_conflate_merges_into_the_newest():
    writer, stream = native.make_stream(capacity=2, overflow="conflate")
    assert [writer.push(number) for number in range(5)] == ["accepted", "accepted", "merged", "merged", "merged"]
    assert stream.qsize() == 2
    assert stream.dropped == 0
    writer.close()
    assert await collect(stream) == [0, 4]
    stats = stream.stats()
    assert (stats.accepted, stats.merged, stats.delivered) == (5, 3, 2)


async def test_a_merged_event_is_destroyed():
    writer, stream = native.make_tracked_stream(capacity=1, overflow="conflate")
    for number in range(10):
        writer.push(number)
    assert native.Tracked.live == 1
    assert (await anext(stream)).number == 9
    assert native.Tracked.live == 0


async def test_error_ends_the_stream_after_what_waits():
    recorder = native.Recorder()
    writer, stream = native.make_stream(capacity=2, overflow="error", recorder=recorder)
    assert [writer.push(number) for number in range(4)] == ["accepted", "accepted", "full", "closed"]
    assert writer.reason == "failed"
    assert await anext(stream) == 0
    assert await anext(stream) == 1
    with pytest.raises(aiobridge.StreamOverflow, match=r"streams\.cpp:\d+ overflowed: 2 events waited"):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await stream.aclose()
    assert recorder.records == ["failed on aiobridge-hooks"]


async def test_unbounded_takes_all():
    writer, stream = native.make_stream(capacity=1, overflow="unbounded")
    assert await asyncio.to_thread(writer.push_all, 100_000) == []
    assert stream.qsize() == 100_000
    writer.close()
    assert await collect(stream) == list(range(100_000))


async def test_unbounded_destroys_what_nobody_takes():
    writer, stream = native.make_tracked_stream(capacity=1, overflow="unbounded")
    for number in range(100):
        writer.push(number)
    for number in range(50):
        assert (await anext(stream)).number == number
    assert native.Tracked.live == 50
    await stream.aclose()
    assert native.Tracked.live == 0


async def test_block_waits_until_there_is_room():
    writer, stream = native.make_stream(capacity=1, overflow="block")
    assert writer.push(0) == "accepted"
    pushing = asyncio.create_task(asyncio.to_thread(writer.push, 1))
    assert await anext(stream) == 0
    assert await pushing == "accepted"
    assert await anext(stream) == 1


async def test_block_ends_with_the_timeout():
    writer, stream = native.make_stream(capacity=1, overflow="block", timeout=0.01)
    writer.push(0)
    assert await asyncio.to_thread(writer.push, 1) == "timed_out"
    assert stream.dropped == stream.stats().timed_out == 1


async def test_a_timeout_of_zero_does_not_wait():
    writer, _stream = native.make_stream(capacity=1, overflow="block", timeout=0)
    writer.push(0)
    assert writer.push_in_thread(1) == "timed_out"


async def test_blocked_pushes_are_released_before_the_hook_runs():
    class Recorder(native.Recorder):
        pass

    released = []
    recorder = Recorder()
    writer, stream = native.make_stream(capacity=1, overflow="block", recorder=recorder)
    writer.push(0)

    def push(number):
        released.append(writer.push(number))

    threads = [threading.Thread(target=push, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    await stream.aclose()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert released == ["closed"] * 4
    assert recorder.records == ["consumer_closed on aiobridge-hooks"]


async def test_a_producer_that_holds_the_gil_gives_it_up_while_it_waits():
    writer, stream = native.make_stream(capacity=1, overflow="block")
    writer.push(0)
    pushing = asyncio.create_task(asyncio.to_thread(writer.push_with_gil, 1))
    assert await anext(stream) == 0
    assert await anext(stream) == 1
    assert await pushing == "accepted"


@pytest.mark.parametrize("push", ["push", "push_with_gil"])
async def test_block_on_the_loops_own_thread_would_deadlock(push):
    writer, stream = native.make_stream(capacity=1, overflow="block")
    assert getattr(writer, push)(0) == "accepted"
    assert getattr(writer, push)(1) == "would_deadlock"
    assert stream.stats().would_deadlock == 1
    assert await anext(stream) == 0


async def test_block_with_many_producers_loses_nothing():
    writer, stream = native.make_stream(capacity=8, overflow="block")
    pushing = asyncio.create_task(asyncio.to_thread(writer.push_all, 5_000, 8))
    received = [await anext(stream) for _ in range(40_000)]
    assert await pushing == []
    for producer in range(8):
        assert [number for number in received if number % 8 == producer] == list(range(producer, 40_000, 8))


@pytest.mark.parametrize("has_loop", [True, False])
def test_a_blocked_producer_is_released_at_exit(run_python, wakeup, has_loop):
    script = f"""
import asyncio, native
async def main():
    global writer, stream
    writer, stream = native.make_stream(capacity=1, overflow="block")
    writer.push(0)
    writer.push_and_record(1, recorder)
recorder = native.Recorder()
if {has_loop}:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
else:
    native.block_without_a_loop(recorder)
recorder.wait(1)
native.print_at_exit(recorder)
"""
    done = run_python(script, wakeup=wakeup)
    assert (done.returncode, done.stdout, done.stderr) == (0, "pushing closed interpreter_exit ", "")


async def test_the_last_writer_gone_in_unwinding_breaks_the_stream():
    writer, stream = native.make_stream()
    writer.push(1)
    writer.drop_in_unwinding()
    assert await anext(stream) == 1
    with pytest.raises(aiobridge.BrokenStreamError, match=r"streams\.cpp:\d+ went while an exception"):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_another_writer_gone_in_unwinding_ends_nothing():
    writer, stream = native.make_stream()
    other = writer.copy()
    writer.drop_in_unwinding()
    assert other.push(1) == "accepted"
    other.drop()
    assert await collect(stream) == [1]


async def test_abort_ends_now_and_tells_of_what_waited():
    recorder, undelivered = native.Recorder(), native.Recorder()
    writer, stream = native.make_stream(recorder=recorder, undelivered=undelivered)
    for number in range(3):
        writer.push(number)
    assert writer.abort()
    assert not writer.abort()
    assert writer.push(3) == "closed"
    assert stream.qsize() == 0
    with pytest.raises(aiobridge.BrokenStreamError, match="aborted by its writer"):
        await anext(stream)
    await stream.aclose()
    assert recorder.records == ["failed on aiobridge-hooks"]
    assert undelivered.records == [f"{number} on aiobridge-hooks" for number in range(3)]
    assert stream.stats().undelivered == 3


async def test_abort_with_an_error_raises_it():
    writer, stream = native.make_stream()
    writer.push(1)
    waiting = asyncio.create_task(collect(stream))
    writer.abort("the feed broke")
    with pytest.raises(RuntimeError, match="the feed broke"):
        await waiting


@pytest.mark.parametrize("leave", ["aclose", "drop"])
async def test_what_the_consumer_leaves_behind_is_handed_over(leave):
    undelivered = native.Recorder()
    writer, stream = native.make_tracked_stream(undelivered=undelivered)
    for number in range(3):
        writer.push(number)
    assert (await anext(stream)).number == 0
    if leave == "aclose":
        await stream.aclose()
        stats = stream.stats()
        assert (stats.accepted, stats.delivered, stats.undelivered, stats.pending) == (3, 1, 2, 0)
    del stream
    gc.collect()
    assert undelivered.wait(2)
    assert undelivered.records == ["1 on aiobridge-hooks", "2 on aiobridge-hooks"]
    await native.make_stream(recorder=native.Recorder())[1].aclose()
    assert native.Tracked.live == 0


async def test_a_second_hook_for_undelivered_events_is_refused():
    with pytest.raises(RuntimeError, match="has such a hook already"):
        native.undelivered_twice()


@pytest.mark.parametrize("overflow", ["refuse", "drop_newest"])
async def test_a_refused_event_is_left_as_it_was(overflow):
    writer, stream = native.make_tracked_stream(capacity=1, overflow=overflow)
    writer.push(1)
    assert writer.push_and_look(7) == 7
    await stream.aclose()
    assert writer.push_and_look(8) == 8


async def test_ready_follows_the_watermarks():
    writer, stream = native.make_stream(capacity=8, high=4, low=1)
    for number in range(3):
        writer.push(number)
        assert writer.ready
    writer.push(3)
    assert not writer.ready
    assert await anext(stream) == 0
    assert await anext(stream) == 1
    assert not writer.ready  # two wait
    assert await anext(stream) == 2
    assert writer.ready


async def test_on_ready_runs_once_when_the_low_watermark_is_reached():
    recorder = native.Recorder()
    writer, stream = native.make_stream(capacity=4)
    for number in range(4):
        writer.push(number)
    writer.on_ready(recorder)
    assert await anext(stream) == 0
    await native.make_stream(recorder=native.Recorder())[1].aclose()
    assert recorder.records == []
    assert await anext(stream) == 1
    assert recorder.wait(1)
    for _ in range(3):
        for number in range(2):
            writer.push(number)
        while stream.qsize():
            await anext(stream)
    await native.make_stream(recorder=native.Recorder())[1].aclose()
    assert recorder.records == ["open on aiobridge-hooks"]


async def test_on_ready_runs_soon_when_the_writer_is_ready():
    recorder = native.Recorder()
    writer, _stream = native.make_stream()
    writer.on_ready(recorder)
    assert recorder.wait(1)
    assert recorder.records == ["open on aiobridge-hooks"]


async def test_on_ready_tells_of_the_end():
    before, after = native.Recorder(), native.Recorder()
    writer, stream = native.make_stream(capacity=1)
    writer.push(1)
    writer.on_ready(before)
    await stream.aclose()
    writer.on_ready(after)
    assert before.wait(1)
    assert after.wait(1)
    assert before.records == after.records == ["consumer_closed on aiobridge-hooks"]


async def test_bad_options_of_policies_are_refused():
    with pytest.raises(ValueError, match="conflate needs a merge function"):
        native.make_stream(overflow="conflate", merge=False)
    for high, low in ((2000, 0), (10, 10), (0, 1024)):
        with pytest.raises(ValueError, match=f"the watermarks are {low} and {high}"):
            native.make_stream(capacity=1024, high=high, low=low)


@pytest.mark.parametrize(
    ("overflow", "capacity"),
    [("refuse", 64), ("block", 64), ("drop_oldest", 64), ("drop_newest", 64), ("conflate", 64), ("unbounded", 64)],
)
async def test_every_event_has_one_fate(overflow, capacity):
    """With producers and the consumer at full speed, cancels, and an end in the middle."""
    before = aiobridge.stats().events
    writer, stream = native.make_tracked_stream(capacity=capacity, overflow=overflow)
    pushing = asyncio.create_task(asyncio.to_thread(writer.push_all, 5_000, 4))
    pushing.add_done_callback(lambda _, writer=writer: writer.close())
    received = 0
    for turn in range(2_000):
        step = asyncio.ensure_future(asyncio.wait_for(anext(stream), 20))
        if turn % 7 == 0:
            await asyncio.sleep(0)
            step.cancel()
        try:
            await step
            received += 1
        except asyncio.CancelledError:
            pass
        except StopAsyncIteration:
            break
        assert balanced(stream.stats())
        del step  # and with it the event
    await stream.aclose()
    await pushing
    stats = stream.stats()
    assert balanced(stats)
    assert stats.pending == 0
    assert stats.delivered == received
    assert stats.accepted + stats.closed + stats.dropped + stats.full == 20_000 + stats.full
    assert native.Tracked.live == 0
    del stream, writer
    gc.collect()
    after = aiobridge.stats().events
    assert after.accepted - before.accepted == stats.accepted
    assert after.delivered - before.delivered == stats.delivered
