"""Conversions that fail, and values that look like errors."""

import asyncio

import native
import pytest
from waiting import collect, until

import aiobridge


@pytest.mark.parametrize(
    ("kind", "error"),
    [("throw", IndexError), ("raise", KeyError), ("raise stop", RuntimeError), ("null", SystemError)],
)
async def test_22_an_error_of_a_conversion_goes_to_its_own_future(kind, error):
    bad_promise, bad = native.make_ChosenPromise()
    good_promise, good = native.make_ChosenPromise()
    bad_promise.set(kind)
    good_promise.set("good")
    assert await good == "good"
    with pytest.raises(error):
        await bad


async def test_22_an_error_of_a_conversion_is_raised_for_its_event_only():
    writer, stream = native.make_even_stream()
    for number in range(4):
        writer.push(number)
    assert await anext(stream) == 0
    with pytest.raises(ValueError, match="1 is odd"):
        await anext(stream)
    assert await anext(stream) == 2
    with pytest.raises(ValueError, match="3 is odd"):
        await anext(stream)
    writer.close()
    assert await collect(stream) == []


async def test_22_a_conversion_error_in_a_batch_comes_after_what_was_before_it():
    writer, stream = native.make_even_stream()
    for number in (0, 2, 3, 4):
        writer.push(number)
    writer.close()
    batches = stream.batches()
    assert await anext(batches) == [0, 2]
    with pytest.raises(ValueError, match="3 is odd"):
        await anext(batches)
    assert await collect(batches) == [[4]]
    assert stream.stats().delivered == 4


async def test_23_stop_iteration_of_a_conversion_is_the_cause_of_a_runtime_error():
    promise, future = native.make_ChosenPromise()
    promise.set("raise stop")
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await future
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_23_stop_iteration_given_as_an_exception_is_wrapped():
    promise, future = aiobridge.make_promise()
    promise.set_exception(StopIteration(1))
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await future
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_23_values_arrive_exactly():
    async def value(kind):
        promise, future = native.make_ChosenPromise()
        promise.set_from_thread(kind)
        return await future

    assert await value("tuple") == (1, 2)
    assert await value("none") is None
    assert await value("text") == "text"
    exception = await value("exception")
    assert type(exception) is ValueError
    assert exception.args == ("a value, not an error",)
    assert type(await value("stop")) is StopIteration


@pytest.mark.parametrize("kind", ["tuple", "none", "exception", "stop", "text"])
async def test_23_values_of_finished_futures_arrive_exactly(kind):
    promise, future = native.make_ChosenPromise()
    promise.set(kind)
    while not future.done():
        await asyncio.sleep(0)
    assert (await future) is future.result()


# Values that StopIteration would unpack or raise, where the await is iterated by hand (and, up to Python 3.11
# or in `yield from`, by asyncio)
@pytest.mark.parametrize("kind", ["tuple", "none", "exception", "stop", "text"])
@pytest.mark.parametrize("step", [next, lambda iterator: iterator.send(None)])
async def test_23_iterating_an_await_by_hand_gives_the_value_exactly(kind, step):
    promise, future = native.make_ChosenPromise()
    promise.set(kind)
    while not future.done():
        await asyncio.sleep(0)
    with pytest.raises(StopIteration) as stopped:
        step(future.__await__())
    assert stopped.value.value is future.result()


@pytest.mark.parametrize(
    ("kind", "error"),
    [("throw", IndexError), ("raise", KeyError), ("raise stop", RuntimeError), ("null", SystemError)],
)
async def test_22_an_event_that_cannot_be_converted_costs_none_of_its_neighbours(kind, error):
    stream = native.chosen_events(["first", kind, "second", kind, "third"])
    received = []
    for _ in range(5):
        try:
            received.append(await anext(stream))
        except Exception as caught:
            received.append(type(caught))
    assert received == ["first", error, "second", error, "third"]
    assert await collect(stream) == []
    assert stream.stats().delivered == 5


async def test_22_a_task_that_awaits_a_failed_conversion_gets_the_converters_own_error():
    promise, future = native.make_ChosenPromise()

    async def wait():
        return await future

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    promise.set_from_thread("raise")
    with pytest.raises(KeyError, match="from the converter"):
        await task
    assert isinstance(future.exception(), KeyError)


OBJECTS = [
    (1, 2),
    (),
    None,
    ValueError("a value, not an error"),
    StopIteration("a value, not an end"),
    StopAsyncIteration(1),
    asyncio.CancelledError("a value, not a cancel"),
    KeyboardInterrupt(),
    [None],
]


@pytest.mark.parametrize("value", OBJECTS, ids=repr)
async def test_23_a_result_given_in_python_is_the_very_object(value):
    promise, future = aiobridge.make_promise()

    async def wait():
        return await future

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    promise.set_result(value)
    assert await task is value
    assert future.result() is value
    assert future.exception() is None
    assert await future is value


@pytest.mark.parametrize("value", OBJECTS, ids=repr)
async def test_23_an_event_given_in_python_is_the_very_object(value):
    writer, stream = aiobridge.make_stream()
    waiting = asyncio.create_task(collect(stream))
    await asyncio.sleep(0)
    writer.push(value)  # for one that waits
    await until(lambda: stream.qsize() == 0)
    writer.push(value)
    writer.close()
    received = await waiting
    assert len(received) == 2
    assert all(event is value for event in received)


@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration(1)], ids=repr)
@pytest.mark.parametrize("how", ["fail", "abort"])
async def test_23_an_error_of_a_stream_is_taken_neither_for_a_value_nor_for_the_end(error, how):
    writer, stream = aiobridge.make_stream()
    getattr(writer, how)(error)
    with pytest.raises(RuntimeError, match="cannot be raised by a Stream") as caught:
        await anext(stream)
    assert caught.value.__cause__ is error
    assert await collect(stream) == []


async def collect_all(stream, count):
    return [await anext(stream) for _ in range(count)]


async def test_23_events_that_look_like_ends_arrive_exactly():
    events = await collect_all(native.chosen_events(["tuple", "none", "exception", "stop", "text"]), 5)
    assert events[:2] == [(1, 2), None]
    assert [type(event) for event in events[2:4]] == [ValueError, StopIteration]
    assert events[4] == "text"
