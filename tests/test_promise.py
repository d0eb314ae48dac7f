"""make_promise: Python code on any thread completes a Future."""

import asyncio
import contextvars
import copy
import functools
import gc
import pickle
import threading
import weakref

import native
import pytest
from forking import needs_fork_with_threads
from waiting import HOOK_THREAD, until, wait_for

import aiobridge
from aiobridge import CloseReason, Fate

who = contextvars.ContextVar("who", default="nobody")


class Thing:
    """Something that weak references can point to."""


def in_thread(function, *args):
    """Call it on a thread of its own, and wait without the loop."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)))
    thread.start()
    thread.join()
    return result[0]


async def test_a_result_from_another_thread():
    promise, future = aiobridge.make_promise()
    thing = Thing()
    assert in_thread(promise.set_result, thing) is Fate.ACCEPTED
    assert await future is thing
    assert promise.close_reason() is CloseReason.FINISHED


async def test_no_result_is_none():
    promise, future = aiobridge.make_promise()
    in_thread(promise.set_result)
    assert await future is None


@pytest.mark.parametrize("kind", ["class", "instance"])
async def test_an_exception_from_another_thread(kind):
    given = LookupError if kind == "class" else LookupError("where")
    promise, future = aiobridge.make_promise()
    assert in_thread(promise.set_exception, given) is Fate.ACCEPTED
    with pytest.raises(LookupError) as caught:
        await future
    assert caught.value is given or kind == "class"
    assert promise.close_reason() is CloseReason.FAILED


async def test_what_is_no_exception_is_refused_and_completes_nothing():
    promise, future = aiobridge.make_promise()
    for wrong in ("a text", int, None, 3):
        with pytest.raises(TypeError, match=r"Promise.set_exception\(\) takes an exception, not"):
            promise.set_exception(wrong)
    with pytest.raises(TypeError, match="takes one result, or none for None, and was given 2"):
        promise.set_result(1, 2)
    with pytest.raises(TypeError, match=r"Promise.on_cancel\(\) takes a function"):
        promise.on_cancel(3)
    assert promise.close_reason() is CloseReason.OPEN
    promise.set_result(1)
    assert await future == 1


async def test_the_first_completion_wins_and_the_second_is_reported():
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
    promise, future = aiobridge.make_promise()
    assert in_thread(promise.set_result, 1) is Fate.ACCEPTED
    assert in_thread(promise.set_exception, KeyError) is Fate.ALREADY_SET
    assert await future == 1
    await until(lambda: told)
    assert "test_promise.py" in told[0]
    assert "fulfilled twice" in told[0]


async def test_of_many_threads_one_completes_it():
    for _ in range(50):
        promise, future = aiobridge.make_promise()
        barrier = threading.Barrier(4)
        fates = []

        def complete(number, promise=promise, barrier=barrier, fates=fates):
            barrier.wait()
            fates.append((promise.set_result(number), number))

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        threads = [threading.Thread(target=complete, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for fate, number in fates if fate is Fate.ACCEPTED]
        assert [await future] == winners


async def test_a_dropped_promise_says_where_it_was_made():
    promise, future = aiobridge.make_promise()
    setters = promise.set_result, promise.set_exception
    del promise
    assert not future.done()
    del setters
    with pytest.raises(
        aiobridge.BrokenPromiseError, match=r"test_promise\.py:\d+ \(test_a_dropped_promise_says_where_it_was_made\)"
    ):
        await future


@pytest.mark.parametrize(
    ("how", "reason"), [("cancel", CloseReason.CANCELLED), ("drop", CloseReason.ABANDONED)], ids=["cancel", "drop"]
)
async def test_a_hook_runs_once_on_the_hook_thread_in_its_context(how, reason):
    promise, future = aiobridge.make_promise()
    calls = []
    who.set("the one who asked")
    promise.on_cancel(lambda reason: calls.append((reason, who.get(), native.this_thread_name())))
    who.set("somebody else")
    if how == "cancel":
        assert future.cancel()
    del future
    await until(lambda: calls)
    assert promise.cancelled()
    assert promise.set_result(1) is Fate.CLOSED
    assert promise.close_reason() is reason
    promise.on_cancel(lambda reason: calls.append(reason))  # late: soon
    await until(lambda: len(calls) > 1)
    assert calls == [(reason, "the one who asked", HOOK_THREAD), reason]


async def test_a_hook_of_what_completes_is_freed_and_does_not_run():
    promise, future = aiobridge.make_promise()
    thing, calls = Thing(), []
    promise.on_cancel(functools.partial(lambda thing, reason: calls.append(reason), thing))
    gone = weakref.ref(thing)
    del thing
    assert gone()
    promise.set_result(1)
    assert await future == 1
    await until(lambda: gone() is None)
    assert calls == []


async def test_a_hook_may_wait_for_a_lock_under_which_the_library_posts():
    lock, entered = threading.Lock(), threading.Event()
    promise, future = aiobridge.make_promise()
    fates, calls = [], []

    def library():
        with lock:
            entered.set()
            while not promise.cancelled():
                pass
            fates.append(promise.set_result(1))

    def abort(reason):
        with lock:
            calls.append(reason)

    promise.on_cancel(abort)
    threading.Thread(target=library).start()
    await until(entered.is_set)
    future.cancel()
    await until(lambda: calls)
    assert fates == [Fate.CLOSED]


async def test_a_hook_that_raises_is_told_to_the_exception_handler():
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    promise, future = aiobridge.make_promise()

    def abort(reason):
        raise LookupError("no such request")

    promise.on_cancel(abort)
    future.cancel()
    await until(lambda: told)
    assert isinstance(told[0]["exception"], LookupError)
    assert "abort" in told[0]["message"]


def fail(promise):
    """With an exception whose traceback holds the promise, as those of most producers do."""
    try:
        raise ValueError
    except ValueError as error:
        promise.set_exception(error)


@pytest.mark.parametrize("complete", [fail, lambda promise: promise.set_result(promise)])
@pytest.mark.parametrize("first", ["completed", "dropped"])
async def test_a_result_that_holds_its_promise_goes_with_the_future(complete, first):
    promise, future = aiobridge.make_promise()
    if first == "dropped":
        future = None
    complete(promise)
    del promise, future
    gc.collect()
    await until(lambda: not aiobridge.stats().operations)


async def test_a_refused_result_is_not_kept():
    promise, future = aiobridge.make_promise()
    future.cancel()
    thing = Thing()
    gone = weakref.ref(thing)
    assert promise.set_result(thing) is Fate.CLOSED
    del thing
    assert gone() is None


def test_a_future_made_where_no_loop_runs(new_loop):
    promise, future = aiobridge.make_promise()
    in_thread(promise.set_result, 5)
    assert future.result(timeout=20) == 5

    async def main(future):
        return await future

    promise, future = aiobridge.make_promise()
    threading.Timer(0.001, promise.set_result, (6,)).start()
    loop = new_loop()
    assert loop.run_until_complete(main(future)) == 6
    loop.close()


def test_a_promise_outlives_its_loop(new_loop):
    async def make():
        return aiobridge.make_promise()

    loop = new_loop()
    promise, future = loop.run_until_complete(make())
    loop.close()
    gc.collect()
    assert in_thread(promise.set_result, 1) is Fate.CLOSED
    assert promise.close_reason() is CloseReason.LOOP_CLOSED
    with pytest.raises(aiobridge.ClosedError):
        future.result()


@pytest.mark.parametrize("end", ["cancelled", "loop closed"])
@pytest.mark.parametrize("error", [False, True])
def test_a_result_that_nobody_took_and_that_refers_to_its_future_is_collected(new_loop, end, error):
    class Result(Exception):
        pass

    async def main():
        promise, future = aiobridge.make_promise()
        result = Result()
        result.future = future
        assert (promise.set_exception if error else promise.set_result)(result) == "accepted"
        assert end != "cancelled" or future.cancel()
        return weakref.ref(result)

    loop = new_loop()
    result = loop.run_until_complete(main())
    assert result()  # the loop has not turned since
    loop.close()
    wait_for(lambda: gc.collect() is not None and not result())  # the notifier may hold the loop for its last call


def test_a_task_waits_for_another_threads_promise_and_is_cancelled(new_loop):
    calls = []

    async def main():
        promise, future = aiobridge.make_promise()
        promise.on_cancel(calls.append)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await future
        await until(lambda: calls)

    loop = new_loop()
    loop.run_until_complete(main())
    loop.close()
    assert calls == ["cancelled"]


async def test_reprs_tell_state_and_place():
    promise, future = aiobridge.make_promise()
    assert repr(promise).startswith("<aiobridge.Promise open, made at test_promise.py:")
    assert repr(future).startswith("<aiobridge.Future pending, made at test_promise.py:")
    assert repr(future).endswith(f" at {id(asyncio.get_running_loop()):#x}>")
    future.cancel()
    assert repr(promise).startswith("<aiobridge.Promise cancelled, made at test_promise.py:")


def test_a_repr_without_a_loop():
    _promise, future = aiobridge.make_promise()
    assert repr(future).endswith(", no loop yet>")
    _promise.set_result(1)
    assert future.result() == 1


async def test_handles_are_not_pickled_or_copied():
    promise, future = aiobridge.make_promise()
    writer, stream = aiobridge.make_stream()
    for handle in (promise, future, writer, stream):
        for refused in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled or copied"):
                refused(handle)


def test_generic_aliases():
    assert aiobridge.Promise[int].__args__ == (int,)
    assert aiobridge.Writer[int].__args__ == (int,)


def test_words_are_strings():
    assert Fate.EVICTED_OLDEST == "evicted_oldest"
    assert [fate for fate in Fate if fate.is_accepted] == ["accepted", "evicted_oldest", "merged"]
    assert CloseReason("scope_exit") is CloseReason.SCOPE_EXIT


def test_hooks_of_what_is_pending_run_at_exit(run_python, wakeup):
    script = """
import asyncio, aiobridge
async def main():
    global promise, stream, writer, future
    promise, future = aiobridge.make_promise()
    promise.on_cancel(lambda reason: print("operation", reason))
    writer, stream = aiobridge.make_stream()
    stream.on_close(lambda reason: print("stream", reason))
    stopped = asyncio.get_running_loop()
    stopped.stop()
loop = asyncio.new_event_loop()
loop.create_task(main())
loop.run_forever()
"""
    done = run_python(script, wakeup=wakeup)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["operation interpreter_exit", "stream interpreter_exit"]


@needs_fork_with_threads
def test_in_a_child_process_everything_inherited_is_closed(run_python):
    script = """
import asyncio, os, warnings, aiobridge
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in programs with threads
async def main():
    promise, future = aiobridge.make_promise()
    promise.on_cancel(print)
    writer, stream = aiobridge.make_stream()
    if pid := os.fork():
        assert os.waitpid(pid, 0)[1] == 0
        promise.set_result(1)
        assert await future == 1
    else:
        assert promise.set_result(1) == "closed", promise.close_reason()
        assert promise.close_reason() == writer.close_reason() == "forked"
        assert writer.push(1) == "closed"
        assert not writer.close()
        try:
            promise.on_cancel(print)
        except aiobridge.BridgeError as error:
            assert "forked" in str(error)
        del promise, future, writer, stream
        os._exit(0)
asyncio.run(main())
"""
    done = run_python(script)
    assert (done.returncode, done.stderr) == (0, "")


async def test_native_code_is_not_needed_by_a_python_hook():
    """The hook thread serves both: a Python hook that waits is followed by a native one."""
    release = threading.Event()
    promise, future = aiobridge.make_promise()
    promise.on_cancel(lambda reason: release.wait(20))
    producer, other = native.make_Promise()
    recorder = native.Recorder()
    producer.on_cancel(recorder)
    future.cancel()
    other.cancel()
    assert recorder.records == []
    release.set()
    await until(lambda: recorder.records)
    assert recorder.records[0] == "cancelled on aiobridge-hooks"
