"""awaitable(): a function that takes a callback becomes one that returns a Future."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

from aiobridge._callback_api import AcceptsAnything, CallbackApi, all_told, event_of, is_exception_class
from aiobridge._core import Future, Promise, make_promise

__all__ = ["awaitable"]

T = TypeVar("T")
T2 = TypeVar("T2")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
Ts = TypeVarTuple("Ts")
Results = TypeVarTuple("Results")


# Not every overload has `*Ts`, because mypy (2.4) crashes on two that differ after it. The one for the most common
# callback has it; with others a function may have three parameters, `self` among them, before its result is Any.


class _LastOptions(TypedDict, total=False):
    callback: None
    errback: None
    cancel: Callable[..., object] | None
    error_first: Literal[False]


class _ErrorFirstOptions(TypedDict, total=False):
    callback: None
    errback: None
    cancel: Callable[..., object] | None


class _Options(TypedDict, total=False):
    callback: str | None
    errback: str | None
    cancel: Callable[..., object] | None
    error_first: bool


class _Adapted(Protocol):
    """What is known of a function that was not typed. Were it a Callable, mypy would call it an untyped function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Future[Any]: ...


class _Last(Protocol):
    """The decorator, with the callback last."""

    @overload
    def __call__(self, fn: AcceptsAnything, /) -> _Adapted: ...
    @overload
    def __call__(self, fn: Callable[[*Ts, Callable[[T], None]], object], /) -> Callable[[*Ts], Future[T]]: ...
    @overload
    def __call__(self, fn: Callable[[Callable[[], None]], object], /) -> Callable[[], Future[None]]: ...
    @overload
    def __call__(self, fn: Callable[[A, Callable[[], None]], object], /) -> Callable[[A], Future[None]]: ...
    @overload
    def __call__(self, fn: Callable[[A, B, Callable[[], None]], object], /) -> Callable[[A, B], Future[None]]: ...
    @overload
    def __call__(self, fn: Callable[[A, B, C, Callable[[], None]], object], /) -> Callable[[A, B, C], Future[None]]: ...
    @overload
    def __call__(
        self, fn: Callable[[Callable[[T, T2, *Results], None]], object], /
    ) -> Callable[[], Future[tuple[T, T2, *Results]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, Callable[[T, T2, *Results], None]], object], /
    ) -> Callable[[A], Future[tuple[T, T2, *Results]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, Callable[[T, T2, *Results], None]], object], /
    ) -> Callable[[A, B], Future[tuple[T, T2, *Results]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, Callable[[T, T2, *Results], None]], object], /
    ) -> Callable[[A, B, C], Future[tuple[T, T2, *Results]]]: ...
    @overload
    def __call__(self, fn: Callable[..., object], /) -> Callable[..., Future[Any]]: ...


class _ErrorFirst(Protocol):
    """The decorator, with the callback last and the error first among its arguments."""

    @overload
    def __call__(self, fn: Callable[[*Ts, Callable[[Any, T], None]], object], /) -> Callable[[*Ts], Future[T]]: ...
    @overload
    def __call__(self, fn: Callable[..., object], /) -> Callable[..., Future[Any]]: ...


class _Untyped(Protocol):
    """The decorator, with callbacks by name."""

    def __call__(self, fn: Callable[..., object], /) -> Callable[..., Future[Any]]: ...


@overload
def awaitable(fn: AcceptsAnything, /, **options: Unpack[_Options]) -> _Adapted: ...
@overload
def awaitable(
    fn: Callable[[*Ts, Callable[[T], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[*Ts], Future[T]]: ...
@overload
def awaitable(
    fn: Callable[[Callable[[], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[], Future[None]]: ...
@overload
def awaitable(
    fn: Callable[[A, Callable[[], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[A], Future[None]]: ...
@overload
def awaitable(
    fn: Callable[[A, B, Callable[[], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[A, B], Future[None]]: ...
@overload
def awaitable(
    fn: Callable[[A, B, C, Callable[[], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[A, B, C], Future[None]]: ...
@overload
def awaitable(
    fn: Callable[[Callable[[T, T2, *Results], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[], Future[tuple[T, T2, *Results]]]: ...
@overload
def awaitable(
    fn: Callable[[A, Callable[[T, T2, *Results], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[A], Future[tuple[T, T2, *Results]]]: ...
@overload
def awaitable(
    fn: Callable[[A, B, Callable[[T, T2, *Results], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[A, B], Future[tuple[T, T2, *Results]]]: ...
@overload
def awaitable(
    fn: Callable[[A, B, C, Callable[[T, T2, *Results], None]], object], /, **options: Unpack[_LastOptions]
) -> Callable[[A, B, C], Future[tuple[T, T2, *Results]]]: ...
@overload
def awaitable(
    fn: Callable[[*Ts, Callable[[Any, T], None]], object],
    /,
    *,
    error_first: Literal[True],
    **options: Unpack[_ErrorFirstOptions],
) -> Callable[[*Ts], Future[T]]: ...
@overload
def awaitable(fn: Callable[..., object], /, **options: Unpack[_Options]) -> Callable[..., Future[Any]]: ...
@overload
def awaitable(**options: Unpack[_LastOptions]) -> _Last: ...
@overload
def awaitable(*, error_first: Literal[True], **options: Unpack[_ErrorFirstOptions]) -> _ErrorFirst: ...
@overload
def awaitable(**options: Unpack[_Options]) -> _Untyped: ...
def awaitable(
    fn: Callable[..., object] | None = None,
    /,
    *,
    callback: str | None = None,
    errback: str | None = None,
    cancel: Callable[..., object] | None = None,
    error_first: bool = False,
) -> Any:
    """Adapt a function that takes a callback: what is returned has its other parameters, and returns a Future.

    ::

        read = aiobridge.awaitable(sdk.read_async)
        read = aiobridge.awaitable(sdk.read_async, callback="on_done", errback="on_error", cancel=sdk.abort)
        data = await read(fd, 4096)

    The result is what the callback is called with: None, the one argument, or a tuple of several; keyword arguments,
    if there are any, are a dict after them. The callback may come on any thread, before `fn` has returned, and with
    locks of the library held: it returns None at once, and raises nothing. The first call counts; another is reported
    to the loop's exception handler. If the library lets go of its callbacks without a call, awaiting raises
    BrokenPromiseError (in a free-threaded Python, which frees things on the thread that made them: when that thread
    next runs). While it holds on to them the Future is pending, and can be cancelled or timed out.

    `callback`: the name of the parameter that takes the callback. None: it is passed as the last positional argument.

    `errback`: the name of the parameter that takes an error callback. An exception that it is called with, an instance
    or a class, is raised; anything else becomes a CallbackError with these ``arguments``.

    `error_first`: the callback's first argument is the error. None, 0 and all else that is false mean success, with the
    arguments after it as the result; an exception is raised, and another error is a CallbackError.

    `cancel`: called when the Future is cancelled, times out or is dropped before the callback came: once, and never
    after it. It is given what `fn` returned; where that is None, the arguments of the call and the callback after them,
    if its signature takes that, or the arguments alone. A callback that the library has let go of meanwhile is not
    brought back for it: then it is not called. It runs on aiobridge's hook thread and may wait for the library's locks;
    it has the GIL, which it must give up meanwhile if the library calls back with these locks held, as functions of
    ctypes and cffi do. What it raises is reported to the loop's exception handler.

    The returned function raises what `fn` raises. Any thread may call it; the Future belongs to the loop that runs
    there, else to the first that awaits it. Without `fn` a decorator is returned; it can be used bare, and on methods.
    Raises TypeError for a `fn` or `cancel` that is no function, and for names of parameters that `fn` does not have.
    """
    if fn is not None:
        return _adapt(CallbackApi("awaitable", fn, callback, errback, ("cancel", cancel)), error_first)

    def decorator(decorated: Callable[..., object], /) -> Callable[..., Future[Any]]:
        return _adapt(CallbackApi("awaitable", decorated, callback, errback, ("cancel", cancel)), error_first)

    return decorator


def _adapt(api: CallbackApi, error_first: bool) -> Callable[..., Future[Any]]:
    make_callback = _make_error_first if error_first else _make_callback

    def call(*args: Any, **kwargs: Any) -> Future[Any]:
        promise, future = make_promise()
        done = make_callback(api, promise)
        try:
            handle = api.call(args, kwargs, done, promise.set_exception)
            if api.undo is not None:
                promise.on_cancel(api.undo_hook(handle, args, kwargs, done))
        except BaseException:
            # The traceback holds the promise, and the library may hold its callback: neither is to be heard of again.
            future.cancel()
            raise
        return future

    return api.wrap(call, Future[Any])  # type: ignore[arg-type]


def _make_callback(_api: CallbackApi, promise: Promise[Any]) -> Callable[..., None]:
    def done(*arguments: Any, **keywords: Any) -> None:
        promise.set_result(event_of(all_told(arguments, keywords)))

    return done


def _make_error_first(api: CallbackApi, promise: Promise[Any]) -> Callable[..., None]:
    def done(*arguments: Any, **keywords: Any) -> None:
        arguments = all_told(arguments, keywords)
        try:
            failed = bool(arguments) and _is_error(arguments[0])
        except Exception as error:  # its own truth is not for the library to hear of
            promise.set_exception(error)
            return
        if not failed:
            promise.set_result(event_of(arguments[1:]))
        elif isinstance(arguments[0], BaseException) or is_exception_class(arguments[0]):
            promise.set_exception(api.error("its callback", arguments[:1]))
        else:
            promise.set_exception(api.error("its callback", arguments))

    return done


def _is_error(thing: Any) -> bool:
    # An exception can be false: one that has a length, for example.
    return isinstance(thing, BaseException) or bool(thing)


_public: Any = awaitable
_public.__module__ = "aiobridge"  # where users find it
