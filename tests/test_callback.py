"""Python functions that native threads hold, call and let go."""

import asyncio
import contextvars
import gc
import threading
import weakref

import native
import pytest
from waiting import posts_have_run, until

who = contextvars.ContextVar("who", default="nobody")


async def test_a_call_of_a_native_thread_runs_on_the_loop():
    seen = []
    caller = native.Caller(lambda number: seen.append((number, threading.get_ident())))
    assert caller.fire_in_thread(7) == "accepted"
    assert seen == []
    await until(lambda: seen)
    assert seen == [(7, threading.get_ident())]


async def test_the_result_goes_back():
    assert await native.Caller(lambda number: number + 1).ask(1) == ["value", "2"]


async def test_a_coroutine_function_is_a_task():
    async def handler(number):
        assert asyncio.current_task() is not None
        await asyncio.sleep(0)
        return number * 2

    assert await native.Caller(handler).ask(21) == ["value", "42"]


async def test_what_returns_a_future_is_awaited():
    def handler(number):
        return native.add(number)

    assert await native.Caller(handler).ask(41) == ["value", "42"]


async def test_arguments_and_results_of_every_kind():
    def handler(numbers, text, tracked):
        assert (numbers, text, tracked.number) == ([1, 2], "three", 4)
        return "fine"

    assert await native.describe(handler) == "fine"
    await until(lambda: native.Tracked.live == 0)  # the native thread has its own until its call has returned
    calls = []
    await native.notify(lambda: calls.append(1))
    assert calls == [1]


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
async def test_an_exception_reaches_the_native_side_in_words(kind):
    class HouseError(Exception):
        pass

    def handler(number):
        raise HouseError(f"not {number}")

    async def coroutine_handler(number):
        await asyncio.sleep(0)
        handler(number)

    caller = native.Caller(handler if kind == "function" else coroutine_handler)
    kind, name, message, traceback = await caller.ask(3)
    assert (kind, message) == ("raised", "not 3")
    assert name.endswith("HouseError")
    assert name.startswith(HouseError.__module__)
    assert "Traceback (most recent call last)" in traceback
    assert 'raise HouseError(f"not {number}")' in traceback
    assert (await native.Caller(lambda _: 1 / 0).ask(0))[1:3] == ["ZeroDivisionError", "division by zero"]


async def test_a_result_of_the_wrong_type_is_an_error():
    outcome = await native.Caller(lambda _: "seven").ask(7)
    assert outcome[:2] == ["raised", "TypeError"]
    assert outcome[2].startswith("a callback of native code returned 'seven', which is not ")


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
async def test_an_exception_that_nobody_awaits_goes_to_the_loops_handler(kind):
    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))

    def handler(number):
        raise ValueError(number)

    async def coroutine_handler(number):
        handler(number)

    caller = native.Caller(handler if kind == "function" else coroutine_handler)
    caller.fire_in_thread(5)
    await until(lambda: contexts)
    assert [str(context["exception"]) for context in contexts] == ["5"]
    assert "handler" in contexts[0]["message"]
    assert contexts[0]["message"].endswith("called by native code, raised")


async def test_a_cancelled_handler_is_an_error_for_who_waits_and_silence_otherwise():
    tasks = []

    async def handler(number):
        tasks.append(asyncio.current_task())
        await asyncio.Event().wait()

    caller = native.Caller(handler)
    asked = caller.ask(1)
    caller.fire_in_thread(1)
    await until(lambda: len(tasks) == 2)
    for task in tasks:
        task.cancel()
    assert (await asked)[:2] == ["raised", "asyncio.exceptions.CancelledError"]
    await posts_have_run()


async def test_each_call_has_a_copy_of_the_context_of_the_place():
    seen = []

    def handler(number):
        seen.append(who.get())
        who.set(f"call {number}")
        return number

    async def coroutine_handler(number):
        await asyncio.sleep(0)
        handler(number)
        return number

    token = who.set("the maker")
    callers = [native.Caller(handler), native.Caller(coroutine_handler)]
    who.reset(token)
    for caller in callers:
        for number in range(2):
            assert await caller.ask(number) == ["value", str(number)]
    assert seen == ["the maker"] * 4
    assert who.get() == "nobody"


async def test_calls_of_a_thread_and_its_results_keep_their_order():
    seen = []
    caller = native.Caller(seen.append)
    assert await asyncio.to_thread(caller.fire_from_threads, 2_000, 8) == 16_000
    await until(lambda: len(seen) == 16_000)
    for thread in range(8):
        assert [number for number in seen if number % 8 == thread] == list(range(thread, 16_000, 8))


@pytest.mark.parametrize("how", ["ask_here", "ask_here_with_gil"])
async def test_waiting_on_the_loops_thread_is_refused(how):
    outcome = getattr(native.Caller(lambda number: number), how)(1)
    assert outcome[:2] == ["refused", "would_deadlock"]
    assert "with the GIL, would be for ever" in outcome[3]


async def test_waiting_with_the_gil_is_refused_on_every_thread():
    caller = native.Caller(lambda number: number)
    assert (await asyncio.to_thread(caller.ask_here_with_gil, 1))[:2] == ["refused", "would_deadlock"]
    assert await asyncio.to_thread(caller.ask_here, 1) == ["value", "1"]


async def test_fire_and_forget_is_allowed_everywhere():
    seen = []
    caller = native.Caller(seen.append)
    assert caller.fire(1) == caller.fire_with_gil(2) == "accepted"
    assert seen == []
    await until(lambda: len(seen) == 2)


async def test_the_function_lives_until_its_calls_are_done():
    started, go_on = asyncio.Event(), asyncio.Event()
    finished = []

    async def handler(number):
        started.set()
        await go_on.wait()
        finished.append(number)

    gone = weakref.ref(handler)
    caller = native.Caller(handler)
    del handler
    caller.fire_in_thread(1)
    caller.drop_in_thread()
    await started.wait()
    gc.collect()
    assert finished == []
    go_on.set()
    await until(lambda: finished)
    await until(lambda: gone() is None)


def test_calls_that_wait_fail_when_the_loop_is_closed(new_loop):
    recorders = [native.Recorder() for _ in range(2)]
    started = threading.Event()

    async def handler(number):
        started.set()
        await asyncio.Event().wait()

    async def main():
        caller = native.Caller(handler)
        caller.ask_and_record(1, recorders[0])
        await until(started.is_set)
        return caller

    loop = new_loop()
    caller = loop.run_until_complete(main())
    caller.ask_and_record(2, recorders[1])  # posted, and never delivered
    assert recorders[1].wait(1)
    loop.close()
    for recorder in recorders:
        assert recorder.wait(4)
        assert recorder.records[:4] == ["asked", "refused", "closed", "loop_closed"]
    assert caller.fire(3) == "closed"
    assert caller.reason == "loop_closed"


@pytest.mark.parametrize("how", ["in the inbox", "in a task", "at hand"])
def test_calls_that_wait_fail_at_exit(run_python, wakeup, how):
    script = f"""
import asyncio, native, threading, sys
async def handler(number):
    started.set()
    await asyncio.Event().wait()
async def make():
    caller = native.Caller(handler)
    if {how!r} == "at hand":
        caller.limit(1)
    return caller
async def run():
    await started.wait()
    for _ in range(3):
        await native.add(1)
recorder = native.Recorder()
started = asyncio.Event()
loop = asyncio.new_event_loop()
caller = loop.run_until_complete(make())
for number in range(3):
    caller.ask_and_record(number, recorder)
assert recorder.wait(3)
if {how!r} != "in the inbox":
    loop.run_until_complete(run())
native.print_at_exit(recorder, count=15)
"""
    done = run_python(script, wakeup=wakeup)
    assert done.returncode == 0
    assert done.stdout.count("refused closed interpreter_exit") == 3


def test_a_callback_needs_a_running_loop():
    with pytest.raises(RuntimeError, match="has no loop to run on.*from a coroutine"):
        native.Caller(print)


async def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="incompatible"):
        native.Caller(7)
    with pytest.raises(TypeError, match="incompatible"):
        native.Caller(None)


async def test_an_empty_callback_refuses():
    assert native.fates_of_empty_callbacks()[:3] == (False, "closed", "finished")
    assert native.fates_of_empty_callbacks()[3][:2] == ["refused", "closed"]


def test_the_docstring_names_the_callable():
    assert (
        "collections.abc.Callable[[int], int | collections.abc.Awaitable[int]]"
        in native.Caller.__init__.__doc__.replace("typing.SupportsInt | typing.SupportsIndex", "int")
    )
