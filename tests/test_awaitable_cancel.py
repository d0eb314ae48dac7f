"""awaitable(): a call that nobody waits for any more is cancelled in the library."""

import asyncio
import contextlib
import ctypes
import functools
import gc
import inspect
import threading
import types

import pytest
from sdk import Sdk
from waiting import HOOK_THREAD, hooks_have_run, posts_have_run, until

import aiobridge


@pytest.fixture
def sdk():
    return Sdk()


async def stop(future, how):
    if how == "drop":
        return
    if how == "timeout":
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0)
        return

    async def work():
        return await future

    task = asyncio.create_task(work())
    await posts_have_run()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("how", ["cancel", "timeout", "drop"])
async def test_cancel_is_called_once_on_the_hook_thread(sdk, how):
    future = aiobridge.awaitable(sdk.open, cancel=sdk.abort)("/dev/null")
    await stop(future, how)
    del future
    gc.collect()
    await until(lambda: sdk.told)
    await sdk.fire("late")
    await hooks_have_run()
    assert sdk.told == [(("handle of /dev/null",), {}, HOOK_THREAD)]


async def test_cancel_is_not_called_after_completion(sdk):
    future = aiobridge.awaitable(sdk.open, cancel=sdk.abort)("/dev/null")
    await sdk.fire("done")
    future.cancel()
    del future
    await posts_have_run()
    await hooks_have_run()
    assert sdk.told == []


async def test_without_a_handle_cancel_is_given_the_arguments(sdk):
    def abort(fd, size):
        sdk.abort(fd, size)

    def abort_one(fd, *, size, callback):
        sdk.abort(fd, size, callback)

    for cancel in (abort, functools.partial(sdk.abort, "bound")):
        aiobridge.awaitable(sdk.read, cancel=cancel)(3, 4096).cancel()
    aiobridge.awaitable(sdk.read, cancel=abort)(3, size=1).cancel()
    await hooks_have_run()
    first, variadic, by_name = (arguments for arguments, _, _ in sdk.told)
    assert first == (3, 4096)
    assert variadic == ("bound", 3, 4096, sdk.callbacks[1])
    assert by_name == (3, 1)


async def test_cancel_is_given_the_callback_where_its_signature_takes_one(sdk):
    def off(fd, size, callback):
        sdk.abort(fd, size, callback)

    def anything(*args, **kwargs):
        sdk.abort(*args, **kwargs)

    for cancel in (off, anything, functools.partial(anything)):
        aiobridge.awaitable(sdk.read, cancel=cancel)(3, 4096).cancel()
    await hooks_have_run()
    assert len(sdk.callbacks) == 3
    assert sdk.told == [((3, 4096, callback), {}, HOOK_THREAD) for callback in sdk.callbacks]


async def test_a_cancel_that_takes_a_callback_is_not_called_once_the_library_has_dropped_it(sdk):
    held, let_go = threading.Event(), threading.Event()
    _writer, stream = aiobridge.make_stream()

    def hold_the_hook_thread(_reason):
        held.set()
        let_go.wait(20)

    def off(fd, size, callback):
        sdk.abort(fd, size, callback)

    stream.on_close(hold_the_hook_thread)
    left = stream.aclose()
    assert await asyncio.to_thread(held.wait, 20)
    aiobridge.awaitable(sdk.read, cancel=off)(3, 4096).cancel()
    aiobridge.awaitable(sdk.open, cancel=sdk.abort)("/dev/null").cancel()
    sdk.callbacks.clear()
    let_go.set()
    await left
    await hooks_have_run()
    assert sdk.told == [(("handle of /dev/null",), {}, HOOK_THREAD)]


async def test_a_cancel_without_a_signature_is_given_the_arguments_alone(sdk):
    foreign = ctypes.CFUNCTYPE(None, ctypes.c_int)(sdk.abort)
    with contextlib.suppress(ValueError):
        assert str(inspect.signature(foreign)) == "(*args, **kwargs)"  # from Python 3.13 on, and as wrong
    of_two = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int)(sdk.abort)
    for cancel in (foreign, functools.partial(of_two, 7), types.MethodType(of_two, 8)):
        aiobridge.awaitable(lambda fd, callback: sdk.callbacks.append(callback), cancel=cancel)(3).cancel()
    await hooks_have_run()
    assert sdk.told == [((3,), {}, HOOK_THREAD), ((7, 3), {}, HOOK_THREAD), ((8, 3), {}, HOOK_THREAD)]


async def test_a_cancel_that_raises_is_reported_with_its_name(sdk):
    def abort(*arguments):
        raise OSError("cannot abort")

    contexts = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
    aiobridge.awaitable(sdk.read, cancel=abort)(1, 1).cancel()
    await until(lambda: contexts)
    assert str(contexts[0]["exception"]) == "cannot abort"
    assert contexts[0]["message"].startswith("aiobridge: the hook <cancel of Sdk.read(): <function ")


async def test_a_callback_under_the_lock_that_cancel_waits_for():
    """The library's thread waits with its lock held, for the loop's thread, which cancels meanwhile."""
    lock, locked, go_on = threading.Lock(), threading.Event(), threading.Event()
    seen = []

    def start(callback):
        def work():
            with lock:
                locked.set()
                go_on.wait(20)
                callback("late")
                seen.append("called back")

        threading.Thread(target=work).start()
        return "operation"

    def abort(operation):
        with lock:
            seen.append("aborted")

    future = aiobridge.awaitable(start, cancel=abort)()
    assert await asyncio.to_thread(locked.wait, 20)
    future.cancel()
    go_on.set()
    await until(lambda: len(seen) == 2)
    assert seen == ["called back", "aborted"]
