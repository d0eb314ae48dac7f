"""What native threads drop without the GIL: promises, callbacks, and Python objects that they hold by them."""

import asyncio
import gc
import sys
import threading
import time
import weakref

import native
import pytest
from waiting import until, wait_for

import aiobridge
from aiobridge import Fate


class Lost(Exception):
    pass


def is_so_while_this_thread_computes(condition):
    """No other thread gets the GIL meanwhile."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    deadline = time.monotonic() + 20
    try:
        while not condition() and time.monotonic() < deadline:
            pass
        return condition()
    finally:
        sys.setswitchinterval(interval)


def finishes_without_the_gil(holder):
    return is_so_while_this_thread_computes(lambda: holder.finished)


async def a_drain():
    promise, future = native.make_Promise()
    promise.set(1)
    await future


async def test_35_a_promise_that_a_native_thread_drops_breaks_and_says_where_it_was_made():
    promise, future = native.make_Promise()
    promise.drop_in_thread()
    with pytest.raises(aiobridge.BrokenPromiseError, match=r"made at .*operations\.cpp:\d+"):
        await future


@pytest.mark.parametrize("drop", ["drop", "drop_in_thread"])
async def test_36_a_callback_that_nobody_holds_frees_its_function(drop):
    def handler(number):
        return number

    gone = weakref.ref(handler)
    caller = native.Caller(handler)
    del handler
    caller.fire_in_thread(1)
    getattr(caller, drop)()
    await until(lambda: gone() is None)


async def test_36_a_result_that_nobody_takes_is_freed():
    promise, future = aiobridge.make_promise()
    result = Lost("a result, this time")
    gone = weakref.ref(result)
    assert promise.set_result(result) is Fate.ACCEPTED
    del result, future, promise
    await until(lambda: gone() is None)


@pytest.mark.parametrize("how", ["aclose", "drop"])
async def test_36_events_that_were_not_taken_are_freed_on_a_loop(how):
    """On the hook thread, which has no GIL, the references are only handed on."""

    class Noted:
        def __del__(self):
            threads.append(threading.get_ident())

    writer, stream = aiobridge.make_stream()
    threads = []
    for _ in range(100):
        writer.push(Noted())
    if how == "aclose":
        await stream.aclose()
    else:
        del stream
    gc.collect()
    await until(lambda: len(threads) == 100)
    assert set(threads) == {threading.get_ident()}


async def test_37_one_native_exception_shared_by_many_futures():
    futures = native.fail_all(10)
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(error) for error in results] == [IndexError] * 10
    assert len({id(error) for error in results}) == 10


async def test_35_promises_that_a_native_thread_drops_while_python_computes_break():
    holder = native.Holder()
    futures = [holder.promise() for _ in range(100)]
    waiting = asyncio.gather(*futures, return_exceptions=True)
    await asyncio.sleep(0)
    holder.let_go()
    assert finishes_without_the_gil(holder)
    assert [type(error) for error in await waiting] == [aiobridge.BrokenPromiseError] * 100


async def test_36_a_function_that_a_native_thread_drops_while_python_computes_ends_with_the_next_drain():
    def function():
        pass

    holder = native.Holder()
    holder.callback(function)
    gone = weakref.ref(function)
    del function
    holder.let_go()
    assert finishes_without_the_gil(holder)
    assert gone() is not None
    await until(lambda: gone() is None)


def test_36_a_callback_that_outlives_its_loop_is_dropped_by_a_native_thread(new_loop):
    holder = native.Holder()

    def function():
        pass

    async def main(function):
        holder.callback(function)

    loop = new_loop()
    loop.run_until_complete(main(function))
    gone = weakref.ref(function)
    del function
    loop.close()
    gc.collect()
    assert gone() is None  # its loop has let go of it
    holder.let_go()
    assert finishes_without_the_gil(holder)


async def test_37_one_python_exception_shared_by_many_futures_of_a_native_thread():
    error = Lost("shared")
    holder = native.Holder()
    futures = [holder.promise() for _ in range(10)]
    holder.fail(error)
    assert finishes_without_the_gil(holder)
    for future in futures:
        for _ in range(2):
            with pytest.raises(Lost, match="^shared$") as caught:
                await future
            assert caught.value is error
    holder.let_go()
    assert finishes_without_the_gil(holder)
    gone = weakref.ref(error)
    del error, future, futures, caught
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


async def test_37_a_python_exception_that_nobody_took_is_dropped_without_the_gil_and_ends_with_a_drain():
    error = Lost("nobody's")
    holder = native.Holder()
    holder.operation()
    holder.fail(error)
    gone = weakref.ref(error)
    del error
    assert finishes_without_the_gil(holder)
    holder.let_go()
    assert finishes_without_the_gil(holder)
    assert gone() is not None
    await a_drain()  # it belongs to no loop, so any will do
    await until(lambda: gone() is None)


async def test_37_a_python_exception_that_only_a_native_future_held_ends_without_another_post():
    error = Lost("nobody's")
    holder = native.Holder()
    future = holder.shared()
    del future  # the operation is bound to this loop, and its consumers are native ones
    holder.fail(error)
    gone = weakref.ref(error)
    del error
    assert finishes_without_the_gil(holder)
    await a_drain()  # it was delivered, to nobody
    assert gone() is not None
    holder.let_go()
    assert finishes_without_the_gil(holder)
    await until(lambda: gone() is None)


@pytest.mark.parametrize("held", ["future", "stream"])
async def test_37_a_python_exception_that_nobody_took_goes_with_its_consumer(held):
    error = Lost("nobody's")
    holder = native.Holder()
    consumer = holder.promise() if held == "future" else holder.writer()
    holder.fail(error)
    gone = weakref.ref(error)
    del error
    assert finishes_without_the_gil(holder)
    del consumer
    gc.collect()
    assert gone() is None
    holder.let_go()
    assert finishes_without_the_gil(holder)


@pytest.mark.parametrize("consumer", ["promise", "writer"])
async def test_37_a_python_exception_that_is_refused_is_dropped_without_the_gil_and_ends_with_a_drain(consumer):
    error = Lost("refused")
    holder = native.Holder()
    if consumer == "promise":
        holder.promise().cancel()
    else:
        await holder.writer().aclose()
    holder.fail(error)
    gone = weakref.ref(error)
    del error
    assert finishes_without_the_gil(holder)
    assert gone() is not None
    await a_drain()
    await until(lambda: gone() is None)


def test_37_a_python_exception_that_a_closed_loop_left_goes_with_its_consumer(new_loop):
    error = Lost("late")
    holder = native.Holder()

    async def main():
        return holder.promise(), holder.writer()

    loop = new_loop()
    consumers = loop.run_until_complete(main())
    holder.fail(error)
    gone = weakref.ref(error)
    del error
    assert finishes_without_the_gil(holder)
    loop.close()
    del consumers
    gc.collect()
    wait_for(lambda: gone() is None)  # the notifier, if it has found the loop closed first, drops nothing itself
    holder.let_go()
    assert finishes_without_the_gil(holder)


def test_37_python_exceptions_dropped_when_the_interpreter_is_gone_are_left_alone(run_python, wakeup):
    done = run_python(
        """
import asyncio, aiobridge, native

async def main():
    function = lambda: None
    holder.callback(function)
    holder.operation()
    futures = holder.promise(), holder.writer()
    holder.fail(KeyError("late"))
    while not holder.finished:
        pass

holder = native.Holder()
holder.let_go_at_process_end()
asyncio.run(main())
""",
        wakeup=wakeup,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("let go\n", "", 0)
