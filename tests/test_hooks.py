"""Hooks against libraries that would deadlock a careless bridge: they run on the hook thread, and nothing waits."""

import asyncio
import gc
import time

import native
import pytest

LEAVING = ["aclose", "async with", "drop", "cancel"]


async def leave(stream, how):
    """Take a few events, then stop in one of the ways in which consumers do."""
    if how == "aclose":
        assert [await anext(stream) for _ in range(5)] == list(range(5))
        await stream.aclose()
    elif how == "async with":
        async with stream:
            assert [await anext(stream) for _ in range(5)] == list(range(5))
    elif how == "cancel":

        async def consume():
            async with stream:
                async for _ in stream:
                    started.set()

        started = asyncio.Event()
        task = asyncio.create_task(consume())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("how", LEAVING)
@pytest.mark.parametrize("sdk", ["joining_sdk", "locking_sdk"])
async def test_a_library_that_is_blocked_in_push_is_released_before_the_hook_unsubscribes(sdk, how):
    """One joins its callback thread in unsubscribe; the other calls back with the mutex held that unsubscribe takes."""
    recorder = native.Recorder()
    stream = getattr(native, sdk)(recorder)
    await leave(stream, how)
    del stream
    gc.collect()
    reason = "abandoned" if how == "drop" else "consumer_closed"
    async with asyncio.timeout(20):
        while not recorder.records or recorder.records[-1] == "released":
            await asyncio.sleep(0)
    assert recorder.records[-1] == f"{reason} on aiobridge-hooks"
    assert set(recorder.records[:-1]) <= {"released"}


@pytest.mark.parametrize("sdk", ["joining_sdk", "locking_sdk"])
def test_the_same_when_the_loop_is_closed(sdk, new_loop):
    async def main():
        return getattr(native, sdk)(recorder)

    recorder = native.Recorder()
    loop = new_loop()
    stream = loop.run_until_complete(main())
    loop.close()
    assert recorder.wait(1)
    assert stream.closed
    while recorder.records[-1] == "released":  # the library still calls, and is told that all is closed
        time.sleep(0)
    assert recorder.records[-1] == "loop_closed on aiobridge-hooks"


@pytest.mark.parametrize("sdk", ["joining_sdk", "locking_sdk"])
def test_the_same_when_the_interpreter_exits(sdk, run_python, wakeup):
    script = f"""
import asyncio, native
async def main():
    global stream
    stream = native.{sdk}(recorder)
    assert await anext(stream) == 0
recorder = native.Recorder()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
native.print_at_exit(recorder, count=1)
"""
    done = run_python(script, wakeup=wakeup)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("interpreter_exit on aiobridge-hooks ")


async def test_a_listener_that_unsubscribes_itself():
    recorder = native.Recorder()
    stream = native.self_unsubscribing_sdk(10, recorder)
    assert [event async for event in stream] == list(range(10))
    await stream.aclose()
    assert recorder.records == ["finished after 2"]


async def test_a_library_that_waits_for_python_with_its_mutex_held_while_the_task_is_cancelled():
    recorder = native.Recorder()
    started = asyncio.Event()

    async def handler(number):
        started.set()
        await asyncio.sleep(0.01)
        return number

    async def work():
        return await native.asking_sdk(handler, recorder)

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The hook waits for the mutex, the mutex for the handler, and the handler only for the loop, which turns.
    assert await asyncio.to_thread(recorder.wait, 1)
    assert recorder.records == ["cancelled on aiobridge-hooks"]


async def test_the_same_when_nobody_is_cancelled():
    async def handler(number):
        return number + 1

    assert await native.asking_sdk(handler, native.Recorder()) == 2
