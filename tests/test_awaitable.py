"""awaitable(): functions that take a callback, and what becomes of their calls."""

import asyncio
import functools
import gc
import inspect
import pickle
import typing
from pathlib import Path

import pytest
from sdk import Sdk
from waiting import HOOK_THREAD, hooks_have_run, posts_have_run, until

import aiobridge


@pytest.fixture
def sdk():
    return Sdk()


@pytest.fixture
def reports():
    """What the loop's exception handler is told. Ask for it in the test's own loop."""
    contexts = []

    def install():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context))
        return contexts

    return install


# What it returns.


@pytest.mark.parametrize(
    ("arguments", "result"), [((), None), ((b"data",), b"data"), ((1, "two"), (1, "two")), ((None,), None)]
)
async def test_the_result_is_what_the_callback_is_called_with(sdk, arguments, result):
    future = aiobridge.awaitable(sdk.read)(3, 4096)
    assert type(future) is aiobridge.Future
    await sdk.fire(*arguments)
    assert await future == result
    assert sdk.calls == [(3, 4096)]


async def test_keyword_arguments_of_a_callback_are_a_dict_after_the_others(sdk):
    read = aiobridge.awaitable(sdk.read)
    futures = [read(1, 1), read(2, 2)]
    sdk.callbacks[0](7, status="fine")
    sdk.callbacks[1](status="fine")
    assert await asyncio.gather(*futures) == [(7, {"status": "fine"}), {"status": "fine"}]


async def test_callbacks_go_by_name(sdk):
    future = aiobridge.awaitable(sdk.ask, callback="on_done", errback="on_error")(question="why")
    await sdk.fire("because")
    assert await future == "because"
    assert sdk.calls == ["why"]


async def test_a_library_that_calls_back_before_it_returns():
    assert await aiobridge.awaitable(lambda number, callback: callback(number + 1))(1) == 2


async def test_the_callback_goes_last_where_arguments_are_left_out_or_named():
    def read(fd, size=4096, callback=None):
        callback(fd, size)

    adapted = aiobridge.awaitable(read)
    assert await adapted(3) == (3, 4096)
    assert await adapted(3, 1) == (3, 1)
    assert await adapted(size=1, fd=3) == (3, 1)
    assert await aiobridge.awaitable(lambda *arguments: arguments[-1](*arguments[:-1]))(1, 2) == (1, 2)
    assert await aiobridge.awaitable(lambda fd, callback, /: callback(fd))(1) == 1


def test_without_a_loop_the_future_belongs_to_the_one_that_awaits_it(sdk, new_loop):
    future = aiobridge.awaitable(sdk.read)(1, 1)

    async def main():
        return await future

    sdk.callbacks[0]("early")
    loop = new_loop()
    assert loop.run_until_complete(main()) == "early"
    loop.close()


# Errors.


class CodeError(Exception):
    def __init__(self, code, words):
        super().__init__(code, words)


@pytest.mark.parametrize(
    ("given", "raised"), [("instance", ValueError), (OSError, OSError), (StopIteration, RuntimeError)]
)
async def test_an_exception_given_to_the_errback_is_raised(sdk, given, raised):
    # Not made for all loops at once, because its traceback would keep what they made.
    given = ValueError("no") if given == "instance" else given
    future = aiobridge.awaitable(sdk.ask, callback="on_done", errback="on_error")("why")
    await sdk.fire(given, callback=1)
    with pytest.raises(raised) as caught:
        await future
    if isinstance(given, ValueError):
        assert caught.value is given


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((5,), "5"),
        (("no such device",), "'no such device'"),
        ((5, "no such device"), "5, 'no such device'"),
        ((), ""),
        ((CodeError,), repr(CodeError)),
        ((CodeError(1, "x"), "context"), "CodeError(1, 'x'), 'context'"),
        ((int,), "<class 'int'>"),
    ],
)
async def test_anything_else_is_a_callback_error(sdk, arguments, shown):
    future = aiobridge.awaitable(sdk.ask, callback="on_done", errback="on_error")("why")
    await sdk.fire(*arguments, callback=1)  # raises nothing in the library
    with pytest.raises(aiobridge.CallbackError) as caught:
        await future
    error = caught.value
    assert error.arguments == arguments
    assert str(error) == f"Sdk.ask() failed: it called on_error({shown})"
    # The class could not be made without its arguments; the instance is one of several things.
    assert isinstance(error.__cause__, TypeError if arguments == (CodeError,) else CodeError | None)


async def test_a_callback_error_can_be_pickled_and_does_not_repeat_a_megabyte():
    def fail(callback, errback):
        errback("x" * 1_000_000)

    with pytest.raises(aiobridge.CallbackError) as caught:
        await aiobridge.awaitable(fail, callback="callback", errback="errback")()
    assert len(str(caught.value)) < 500
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.arguments) == (str(caught.value), caught.value.arguments)


class FalseError(Exception):
    def __bool__(self):
        return False


class Undecided:
    def __bool__(self):
        raise ValueError("neither")


@pytest.mark.parametrize(
    ("arguments", "result"),
    [((None, 7), 7), ((0, 7), 7), ((None,), None), ((None, 1, 2), (1, 2)), ((), None), ((False, None), None)],
)
async def test_error_first_without_an_error(sdk, arguments, result):
    future = aiobridge.awaitable(sdk.read, error_first=True)(1, 1)
    await sdk.fire(*arguments)
    assert await future == result


@pytest.mark.parametrize(
    ("arguments", "raised"),
    [
        (lambda: (OSError("no"), None), OSError),
        (lambda: (OSError,), OSError),
        (lambda: (FalseError(),), FalseError),
        (lambda: (5, None), aiobridge.CallbackError),
        (lambda: (Undecided(), 1), ValueError),
    ],
)
async def test_error_first_with_an_error(sdk, arguments, raised):
    future = aiobridge.awaitable(sdk.read, error_first=True)(1, 1)
    await sdk.fire(*arguments())  # raises nothing in the library
    with pytest.raises(raised) as caught:
        await future
    if raised is aiobridge.CallbackError:
        assert caught.value.arguments == (5, None)
        assert str(caught.value) == "Sdk.read() failed: it called its callback(5, None)"


async def test_the_first_call_counts_and_the_second_is_reported(sdk, reports):
    contexts = reports()
    future = aiobridge.awaitable(sdk.ask, callback="on_done", errback="on_error")("why")
    await sdk.fire(1)
    await sdk.fire(2)
    await sdk.fire("late", callback=1)
    assert await future == 1
    await until(lambda: len(contexts) == 2)
    assert all("was fulfilled twice" in context["message"] for context in contexts)
    assert Path(__file__).name in contexts[0]["message"]


# Callbacks that never come.


@pytest.mark.parametrize("cancel", [None, "abort", "off"])
async def test_a_callback_that_the_library_drops_breaks_the_promise(sdk, cancel):
    """Whatever `cancel` would be given."""

    def off(fd, size, callback):
        raise AssertionError("nothing was cancelled")

    future = aiobridge.awaitable(sdk.read, cancel={"abort": sdk.abort, "off": off}.get(cancel))(1, 1)
    sdk.callbacks.clear()
    with pytest.raises(aiobridge.BrokenPromiseError, match=Path(__file__).name):
        await asyncio.wait_for(future, 20)
    await hooks_have_run()
    assert sdk.told == []


async def test_a_callback_that_the_library_keeps_leaves_the_future_pending(sdk):
    future = aiobridge.awaitable(sdk.read)(1, 1)
    await posts_have_run()
    assert not future.done()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0)
    sdk.callbacks[0]("late")
    assert future.cancelled()


@pytest.mark.parametrize("callbacks", ["last", "by name"])
async def test_what_the_function_raises_is_raised_and_nothing_is_left(sdk, reports, callbacks):
    def fail(callback, errback=None):
        sdk.callbacks.append(callback)
        if errback:
            errback(OSError("told as well"))
        raise ValueError("no such device")

    contexts = reports()
    gc.collect()
    before = aiobridge.stats().operations
    options = {"callback": "callback", "errback": "errback"} if callbacks == "by name" else {"callback": "callback"}
    adapted = aiobridge.awaitable(fail, **options, cancel=sdk.abort)
    with pytest.raises(ValueError, match="no such device") as caught:
        adapted()
    await posts_have_run()
    if callbacks == "last":
        sdk.callbacks[0]("all the same")
    del caught
    sdk.callbacks.clear()
    gc.collect()
    await until(lambda: aiobridge.stats().operations <= before)
    await hooks_have_run()
    assert (contexts, sdk.told) == ([], [])


# What it looks like.


async def test_it_decorates_functions_and_methods(sdk):
    @aiobridge.awaitable
    def double(number, callback):
        callback(2 * number)

    @aiobridge.awaitable(callback="done", errback="failed")
    def half(number, *, done, failed):
        if number % 2:
            failed("odd")
        else:
            done(number // 2)

    class Device:
        def __init__(self, name):
            self.name = name

        def stop(self, size):
            sdk.abort(self.name, size)

        @aiobridge.awaitable(cancel=stop)
        def read(self, size, callback):
            """Read from the device."""
            self.callback = callback
            if size:
                callback(self.name, size)

        @aiobridge.awaitable
        def close(self, callback):
            callback()

    assert await double(4) == 8
    assert await half(4) == 2
    with pytest.raises(aiobridge.CallbackError, match="half.. failed: it called failed.'odd'"):
        await half(3)
    device = Device("disk")
    assert await device.read(5) == ("disk", 5)
    assert await device.close() is None
    device.read(0).cancel()
    await hooks_have_run()
    assert sdk.told == [(("disk", 0), {}, HOOK_THREAD)]
    assert (Device.read.__name__, Device.read.__doc__) == ("read", "Read from the device.")
    assert str(inspect.signature(device.read)).startswith("(size) -> ")


async def test_the_adapted_function_has_the_name_and_the_signature_without_callbacks(sdk):
    def read(fd: int, size: "int" = 4096, *, timeout: float = 1, callback: object = None, errback=None) -> str:
        """Read."""
        raise AssertionError

    adapted = aiobridge.awaitable(read, callback="callback", errback="errback")
    assert (adapted.__name__, adapted.__doc__, adapted.__wrapped__) == ("read", "Read.", read)
    assert adapted.__qualname__ == read.__qualname__
    assert list(inspect.signature(adapted).parameters) == ["fd", "size", "timeout"]
    hints = typing.get_type_hints(adapted)
    assert hints.pop("return").__origin__ is aiobridge.Future
    assert hints == {"fd": int, "size": int, "timeout": float}
    assert list(inspect.signature(aiobridge.awaitable(read, callback="timeout")).parameters) == [
        "fd",
        "size",
        "callback",
        "errback",
    ]
    assert list(inspect.signature(aiobridge.awaitable(sdk.read)).parameters) == ["fd", "size"]
    for unknown in ({}.pop, lambda *args, **kwargs: None):
        assert list(inspect.signature(aiobridge.awaitable(unknown)).parameters) == ["args", "kwargs"]


async def test_partials_bound_methods_and_objects_that_can_be_called(sdk):
    class Reader:
        def __call__(self, fd, callback):
            callback(fd)

        def __repr__(self):
            return "the reader"

    assert await aiobridge.awaitable(Reader())(1) == 1
    future = aiobridge.awaitable(functools.partial(sdk.read, 3), error_first=True)(4096)
    assert sdk.calls == [(3, 4096)]
    sdk.callbacks[0](5)
    with pytest.raises(aiobridge.CallbackError, match=r"^Sdk.read\(\) failed"):
        await future


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: aiobridge.awaitable(5), r"awaitable\(\) adapts a function that takes a callback, and was given 5"),
        (lambda: aiobridge.awaitable(print, cancel=5), r"awaitable\(\): cancel is 5; it is a function, or None"),
        (lambda: aiobridge.awaitable(Sdk.open, callback="done"), r"callback is 'done', and Sdk.open\(self, path, call"),
        (lambda: aiobridge.awaitable(Sdk.open, errback="failed"), r"errback is 'failed', and Sdk.open.*no such param"),
        (lambda: aiobridge.awaitable(lambda *, done: None), r"no callback can go last; name its parameter with callb"),
    ],
)
def test_what_cannot_be_adapted_is_refused_at_once(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_callback_that_the_caller_passes_as_well_is_refused(sdk):
    adapted = aiobridge.awaitable(sdk.ask, callback="on_done")
    with pytest.raises(TypeError, match="multiple values for keyword argument 'on_done'"):
        adapted("why", on_done=print)
