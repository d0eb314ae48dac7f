"""aiobridge::async: a blocking C++ function made awaitable."""

import asyncio
import gc

import native
import pytest

import aiobridge


async def test_a_function_runs_on_the_pool_without_the_gil():
    assert await native.add(1, 2) == 3
    assert await native.add(a=5) == 6
    assert await native.nothing() is None
    assert await native.has_gil() is False
    assert "pool-" in await native.thread_name()
    assert (await native.answer()).value == 42


async def test_arguments_are_taken_by_value():
    assert await native.length("x" * 100_000) == 100_000
    texts = ["a", "b"]
    future = native.various(texts, None)
    texts.clear()
    assert await future == (["a", "b"], None, 2)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        native.add("one")


async def test_a_member_function_of_a_shared_object():
    counter = native.Counter()
    assert await counter.add(2) == 2
    future = counter.add(3)
    del counter
    gc.collect()
    assert await future == 5


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("runtime_error", RuntimeError, "it failed"),
        ("out_of_range", IndexError, "too far"),
        ("system_error", RuntimeError, "no entry"),
        ("registered", native.AnswerError, "42 was expected"),
        ("other", RuntimeError, "unknown exception"),
    ],
)
async def test_exceptions_arrive_as_from_a_bound_function(kind, error, message):
    with pytest.raises(error, match=message):
        await native.fail_with(kind)


async def test_signatures_say_what_is_awaited():
    assert native.add.__doc__.startswith("add(a: ")
    assert "-> collections.abc.Awaitable[int]" in native.add.__doc__
    assert "Adds two numbers on the pool." in native.add.__doc__
    assert "-> collections.abc.Awaitable[None]" in native.nothing.__doc__
    assert "-> collections.abc.AsyncIterator[int]" in native.numbers.__doc__


async def test_cancelling_sets_the_stop_token_of_a_running_call():
    recorder = native.Recorder()
    future = native.run_until_stopped(recorder)
    assert await asyncio.to_thread(recorder.wait, 1)
    future.cancel()
    assert await asyncio.to_thread(recorder.wait, 2)
    assert recorder.records == ["started", "stopped: cancelled"]


async def test_dropping_the_future_stops_a_running_call():
    recorder = native.Recorder()
    future = native.run_until_stopped(recorder)
    assert await asyncio.to_thread(recorder.wait, 1)
    del future
    gc.collect()
    assert await asyncio.to_thread(recorder.wait, 2)
    assert recorder.records == ["started", "stopped: abandoned"]


def test_cancelling_drops_a_call_that_has_not_started(run_python):
    done = run_python(
        """
import asyncio, aiobridge, native
aiobridge.configure(pool_threads=1)
async def main():
    busy, recorder = native.Recorder(), native.Recorder()
    blocker = native.run_until_stopped(busy)
    await asyncio.to_thread(busy.wait, 1)
    dropped, kept = native.record(recorder, "dropped"), native.record(recorder, "kept")
    dropped.cancel()
    blocker.cancel()
    await kept
    print(recorder.records, aiobridge.stats().pool_threads)
asyncio.run(main())
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("['kept'] 1\n", "", 0)


def test_each_call_that_a_thread_could_run_gets_one(run_python):
    """Threads sleep, stay awake for a moment, or are on their way to sleep when calls come."""
    done = run_python(
        """
import asyncio, random, time, aiobridge, native
aiobridge.configure(pool_threads=3)
draw = random.Random(1)
async def main():
    for _ in range(3000):
        await asyncio.gather(*(native.meet(3) for _ in range(3)), native.nothing())
        until = time.perf_counter() + draw.choice((0, 5e-6, 20e-6, 40e-6))
        while time.perf_counter() < until:
            pass
    print(aiobridge.stats().pool_threads)
asyncio.run(main())
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("3\n", "", 0)


@pytest.mark.parametrize("source", ["configure", "environment"])
def test_the_size_of_the_pool(run_python, monkeypatch, source):
    if source == "environment":
        monkeypatch.setenv("AIOBRIDGE_POOL_THREADS", "3")
    done = run_python(
        f"""
import asyncio, aiobridge, native
if {source == "configure"}:
    aiobridge.configure(pool_threads=3)
async def main():
    recorder = native.Recorder()
    futures = [native.run_until_stopped(recorder) for _ in range(5)]
    await asyncio.to_thread(recorder.wait, 3)
    print(aiobridge.stats().pool_threads, recorder.records)
    for future in futures:
        future.cancel()
asyncio.run(main())
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("3 ['started', 'started', 'started']\n", "", 0)


async def test_configuring_the_pool_too_late_or_wrongly_is_refused():
    await native.nothing()
    with pytest.raises(RuntimeError, match="the pool runs with .* threads already"):
        aiobridge.configure(pool_threads=77)
    for wrong in (0, -1, 5000):
        with pytest.raises(ValueError, match=f"pool_threads is {wrong}; it must be from 1 to 4096"):
            aiobridge.configure(pool_threads=wrong)
    with pytest.raises(TypeError):
        aiobridge.configure(pool_threads="many")


def test_a_wrong_environment_is_refused_at_import(run_python, monkeypatch):
    monkeypatch.setenv("AIOBRIDGE_POOL_THREADS", "4 or so")
    done = run_python("import aiobridge")
    assert "AIOBRIDGE_POOL_THREADS is 4 or so; it must be from 1 to 4096" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("count", [1, 10_000])
async def test_many_calls_at_once(count):
    assert await asyncio.gather(*(native.add(i, 0) for i in range(count))) == list(range(count))


# Fails if Pool::submit counts an idle thread that was woken, and has not taken its call yet, as free for another call
def test_two_calls_at_once_get_two_threads_though_one_is_idle(run_python):
    script = """
import asyncio, time, aiobridge, native
aiobridge.configure(pool_threads=2)
async def main():
    await native.nothing()
    await asyncio.to_thread(time.sleep, 0.05)  # its thread is idle, as far as we can know
    recorder = native.Recorder()
    futures = [native.run_until_stopped(recorder) for _ in range(2)]
    await asyncio.to_thread(recorder.wait, 2)
    print(recorder.records)
    for future in futures:
        future.cancel()
asyncio.run(main())
"""
    for _ in range(3):
        done = run_python(script, timeout=50)
        assert (done.stdout, done.stderr, done.returncode) == ("['started', 'started']\n", "", 0)
