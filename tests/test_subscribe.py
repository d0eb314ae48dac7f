"""subscribe(): functions that call their callback again and again, as streams."""

import asyncio
import gc
import inspect
import threading
from pathlib import Path

import native
import pytest
from waiting import HOOK_THREAD, hooks_have_run, until

import aiobridge


class Sdk:
    """A library whose events come when the test says so, and which remembers what it was told."""

    def __init__(self):
        self.listeners = []
        self.told = []

    def on(self, topic, listener):
        """Listen to a topic."""
        self.listeners.append(listener)

    def listen(self, topic, *, on_event, on_error=None):
        self.listeners += [on_event, on_error]
        return f"subscription to {topic}"

    def off(self, *arguments):
        self.told.append((arguments, native.this_thread_name()))

    async def send(self, *events, to=0):
        """Call a listener on a thread of the library's."""

        def run():
            for event in events:
                self.listeners[to](*event)

        await asyncio.to_thread(run)


@pytest.fixture
def sdk():
    return Sdk()


async def test_events_are_what_the_callback_is_called_with(sdk):
    stream = aiobridge.subscribe(sdk.on, "topic")
    assert type(stream) is aiobridge.Stream
    await sdk.send((), (1,), (1, "two"))
    sdk.listeners[0](3, word="three")
    assert [await anext(stream) for _ in range(4)] == [None, 1, (1, "two"), (3, {"word": "three"})]


async def test_events_before_the_function_has_returned():
    stream = aiobridge.subscribe(lambda listener: [listener(number) for number in range(3)])
    assert [event async for event in stream] == [0, 1, 2]


async def test_callbacks_go_by_name(sdk):
    stream = aiobridge.subscribe(sdk.listen, "topic", callback="on_event", errback="on_error")
    await sdk.send((1,))
    await sdk.send((5, "gone"), to=1)
    assert await anext(stream) == 1
    with pytest.raises(
        aiobridge.CallbackError, match=r"Sdk.listen\(\) failed: it called on_error\(5, 'gone'\)"
    ) as error:
        await anext(stream)
    assert error.value.arguments == (5, "gone")


async def test_an_error_ends_the_stream_after_its_events_and_unsubscribes(sdk):
    failure = OSError("connection lost")
    async with aiobridge.subscribe(
        sdk.listen, "topic", callback="on_event", errback="on_error", unsubscribe=sdk.off
    ) as stream:
        await sdk.send((1,), (2,))
        await sdk.send((failure,), to=1)
        await sdk.send(("late",))
        assert [await anext(stream), await anext(stream)] == [1, 2]
        with pytest.raises(OSError, match="connection lost") as caught:
            await anext(stream)
    assert caught.value is failure
    assert sdk.told == [(("subscription to topic",), HOOK_THREAD)]


@pytest.mark.parametrize("how", ["async with", "aclose", "cancel", "exception"])
async def test_left_in_the_middle_it_unsubscribes_once_before_that_has_ended(sdk, how):
    stream = aiobridge.subscribe(sdk.listen, "topic", callback="on_event", unsubscribe=sdk.off)
    await sdk.send((1,), (2,), (3,))

    async def consume(events, forever=False):
        async with events:
            async for event in events:
                if event == 2 and not forever:
                    break
                if event == 1 and how == "exception":
                    raise ValueError("enough")
                if event == 3:
                    started.set()

    started = asyncio.Event()
    if how == "aclose":
        assert await anext(stream) == 1
        await stream.aclose()
    elif how == "cancel":
        task = asyncio.create_task(consume(stream, forever=True))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "exception":
        with pytest.raises(ValueError, match="enough"):
            await consume(stream)
    else:
        await consume(stream)
    assert sdk.told == [(("subscription to topic",), HOOK_THREAD)]
    await sdk.send(("late",))
    await stream.aclose()
    del stream
    gc.collect()
    await hooks_have_run()
    assert len(sdk.told) == 1


async def test_a_dropped_stream_unsubscribes(sdk):
    stream = aiobridge.subscribe(sdk.listen, "topic", callback="on_event", unsubscribe=sdk.off)
    del stream
    gc.collect()
    await until(lambda: sdk.told)
    await sdk.send(("late",))
    await hooks_have_run()
    assert sdk.told == [(("subscription to topic",), HOOK_THREAD)]


def test_a_closed_loop_unsubscribes(sdk, new_loop):
    unsubscribed = threading.Event()

    def off(topic):
        sdk.off(topic)
        unsubscribed.set()

    async def main():
        return aiobridge.subscribe(sdk.on, "topic", unsubscribe=off)

    loop = new_loop()
    stream = loop.run_until_complete(main())
    loop.close()
    assert unsubscribed.wait(20)
    assert stream.closed
    sdk.listeners[0]("late")
    assert sdk.told == [(("topic",), HOOK_THREAD)]


async def test_an_overflow_is_an_error_and_unsubscribes(sdk):
    stream = aiobridge.subscribe(sdk.on, "topic", unsubscribe=lambda topic: sdk.off(topic), capacity=2)
    await sdk.send((1,), (2,), (3,), (4,))
    await until(lambda: sdk.told)
    assert [await anext(stream), await anext(stream)] == [1, 2]
    with pytest.raises(aiobridge.StreamOverflow):
        await anext(stream)
    await stream.aclose()
    assert sdk.told == [(("topic",), HOOK_THREAD)]


async def test_what_make_stream_is_told(sdk):
    stream = aiobridge.subscribe(sdk.on, "topic", capacity=2, overflow="drop_oldest", high_watermark=2, low_watermark=1)
    await sdk.send((1,), (2,), (3,))
    assert [await anext(stream), await anext(stream)] == [2, 3]
    blocking = aiobridge.subscribe(sdk.on, "topic", capacity=1, overflow="block", timeout=0)
    await sdk.send((1,), (2,), to=1)
    assert blocking.stats().timed_out == 1
    with pytest.raises(ValueError, match="overflow is 'unheard of'"):
        aiobridge.subscribe(sdk.on, "topic", overflow="unheard of")
    assert len(sdk.listeners) == 2


async def test_unsubscribe_is_given_the_callback_where_its_signature_takes_one(sdk):
    def off(topic, listener):
        sdk.off(topic, listener)

    async with aiobridge.subscribe(sdk.on, "topic", unsubscribe=off):
        pass
    assert sdk.told == [(("topic", sdk.listeners[0]), HOOK_THREAD)]


@pytest.mark.parametrize("unsubscribe", ["none", "arguments", "handle", "callback"])
async def test_a_library_that_drops_the_callback_ends_the_stream(sdk, unsubscribe):
    """And is not asked to drop it."""

    def off(topic, listener):
        sdk.off(topic, listener)

    options = {"none": None, "arguments": lambda topic: sdk.off(topic), "handle": sdk.off, "callback": off}
    subscribe, by = (sdk.listen, "on_event") if unsubscribe == "handle" else (sdk.on, None)
    stream = aiobridge.subscribe(subscribe, "topic", callback=by, unsubscribe=options[unsubscribe])
    await sdk.send((1,))
    sdk.listeners.clear()
    async with asyncio.timeout(20), stream:
        assert [event async for event in stream] == [1]
    given = [arguments for arguments, _ in sdk.told]
    assert given == {"arguments": [("topic",)], "handle": [("subscription to topic",)]}.get(unsubscribe, [])


@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_what_the_function_raises_is_raised_with_the_stream_closed(sdk, where):
    def fail(listener):
        sdk.listeners.append(listener)
        raise ValueError("no such topic")

    with pytest.raises(ValueError, match="no such topic") as caught:
        aiobridge.subscribe(fail, unsubscribe=sdk.off)
    # The traceback still holds the stream, and the library its listener.
    before = aiobridge.stats().events
    if where == "loop":
        sdk.listeners[0]("all the same")
    else:
        await sdk.send(("all the same",))
    after = aiobridge.stats().events
    assert (after.accepted, after.closed) == (before.accepted, before.closed + 1)
    await hooks_have_run()
    assert sdk.told == []
    assert caught.traceback


async def test_a_library_that_calls_back_under_the_lock_that_unsubscribe_waits_for():
    lock, subscribed = threading.Lock(), True
    calls = []

    def on(listener):
        def work():
            number = 0
            while True:
                with lock:
                    if not subscribed:
                        return
                    listener(number)
                number += 1

        threading.Thread(target=work).start()
        return "subscription"

    def off(subscription):
        nonlocal subscribed
        with lock:
            subscribed = False
            calls.append(subscription)

    async with aiobridge.subscribe(on, unsubscribe=off, capacity=2, overflow="drop_oldest") as numbers:
        async for number in numbers:
            if number > 5:
                break
    assert calls == ["subscription"]


async def test_an_unsubscribe_that_raises_is_reported_with_its_name(sdk):
    def off(*arguments):
        raise OSError("cannot unsubscribe")

    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    async with aiobridge.subscribe(sdk.on, "topic", unsubscribe=off):
        pass
    await until(lambda: contexts)
    assert str(contexts[0]["exception"]) == "cannot unsubscribe"
    assert contexts[0]["message"].startswith("aiobridge: the hook <unsubscribe of Sdk.on(): <function ")


async def test_it_decorates_functions_and_methods(sdk):
    @aiobridge.subscribe(unsubscribe=sdk.off, capacity=1, overflow="conflate")
    def ticks(first, listener):
        """Tick."""
        for number in range(first, 5):
            listener(number)
        sdk.listeners.append(listener)
        return "ticks"

    class Device:
        @aiobridge.subscribe(callback="on_key", errback="on_error")
        def keys(self, *, layout, on_key, on_error):
            on_key(self, layout)

    async with ticks(first=2) as stream:
        assert await anext(stream) == 4
    async with ticks(0) as stream:
        assert await anext(stream) == 4
    assert [arguments for arguments, _ in sdk.told] == [("ticks",)] * 2
    device = Device()
    assert await anext(device.keys(layout="us")) == (device, "us")
    assert (ticks.__name__, ticks.__doc__) == ("ticks", "Tick.")
    assert list(inspect.signature(ticks).parameters) == ["first"]
    assert list(inspect.signature(device.keys).parameters) == ["layout"]
    assert inspect.signature(ticks).return_annotation.__origin__ is aiobridge.Stream


def test_where_no_loop_runs_it_is_refused(sdk):
    with pytest.raises(RuntimeError, match=f"the stream made at .*{Path(__file__).name}.* has no loop to belong to"):
        aiobridge.subscribe(sdk.on, "topic", unsubscribe=sdk.off)
    assert sdk.listeners == sdk.told == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: aiobridge.subscribe(5), r"subscribe\(\) adapts a function that takes a callback, and was given 5"),
        (lambda: aiobridge.subscribe(None, "topic"), r"subscribe\(\) subscribes with a function .* was given None"),
        (lambda: aiobridge.subscribe(print, unsubscribe=5), r"subscribe\(\): unsubscribe is 5; it is a function, or"),
        (
            lambda: aiobridge.subscribe(callback="x")(Sdk.on),
            r"callback is 'x', and Sdk.on\(self, topic, listener\)",
        ),
    ],
)
async def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(TypeError, match=message):
        make()
