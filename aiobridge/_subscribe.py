"""subscribe(): what a function calls its callback with becomes a Stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, TypeVar, TypeVarTuple, Unpack, overload

from aiobridge._callback_api import AcceptsAnything, CallbackApi, all_told, event_of
from aiobridge._core import Stream, Writer, make_stream
from aiobridge._words import Overflow

__all__ = ["subscribe"]

T = TypeVar("T")
T2 = TypeVar("T2")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
Ts = TypeVarTuple("Ts")
Events = TypeVarTuple("Events")


@dataclass(frozen=True, slots=True)
class _Options:
    """What make_stream is told."""

    capacity: int
    overflow: Overflow
    timeout: float | None
    high_watermark: int
    low_watermark: int

    def make(self) -> tuple[Writer[Any], Stream[Any]]:
        return make_stream(
            self.capacity,
            self.overflow,
            timeout=self.timeout,
            high_watermark=self.high_watermark,
            low_watermark=self.low_watermark,
        )


# As in _awaitable.py, for the same reason.


class _StreamOptions(TypedDict, total=False):
    unsubscribe: Callable[..., object] | None
    capacity: int
    overflow: Overflow
    timeout: float | None
    high_watermark: int
    low_watermark: int


class _LastOptions(_StreamOptions, total=False):
    callback: None
    errback: None


class _NamedOptions(_StreamOptions, total=False):
    callback: str | None
    errback: str | None


class _Adapted(Protocol):
    """What is known of a function that was not typed. Were it a Callable, mypy would call it an untyped function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Stream[Any]: ...


class _Last(Protocol):
    """The decorator, with the callback last."""

    @overload
    def __call__(self, fn: AcceptsAnything, /) -> _Adapted: ...
    @overload
    def __call__(self, fn: Callable[[*Ts, Callable[[T], None]], object], /) -> Callable[[*Ts], Stream[T]]: ...
    @overload
    def __call__(self, fn: Callable[[Callable[[], None]], object], /) -> Callable[[], Stream[None]]: ...
    @overload
    def __call__(self, fn: Callable[[A, Callable[[], None]], object], /) -> Callable[[A], Stream[None]]: ...
    @overload
    def __call__(self, fn: Callable[[A, B, Callable[[], None]], object], /) -> Callable[[A, B], Stream[None]]: ...
    @overload
    def __call__(self, fn: Callable[[A, B, C, Callable[[], None]], object], /) -> Callable[[A, B, C], Stream[None]]: ...
    @overload
    def __call__(
        self, fn: Callable[[Callable[[T, T2, *Events], None]], object], /
    ) -> Callable[[], Stream[tuple[T, T2, *Events]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, Callable[[T, T2, *Events], None]], object], /
    ) -> Callable[[A], Stream[tuple[T, T2, *Events]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, Callable[[T, T2, *Events], None]], object], /
    ) -> Callable[[A, B], Stream[tuple[T, T2, *Events]]]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, Callable[[T, T2, *Events], None]], object], /
    ) -> Callable[[A, B, C], Stream[tuple[T, T2, *Events]]]: ...
    @overload
    def __call__(self, fn: Callable[..., object], /) -> Callable[..., Stream[Any]]: ...


class _Untyped(Protocol):
    """The decorator, with callbacks by name."""

    def __call__(self, fn: Callable[..., object], /) -> Callable[..., Stream[Any]]: ...


@overload
def subscribe(fn: AcceptsAnything, /, *args: Any, **options: Unpack[_NamedOptions]) -> Stream[Any]: ...
@overload
def subscribe(
    fn: Callable[[*Ts, Callable[[T], None]], object], /, *args: *Ts, **options: Unpack[_LastOptions]
) -> Stream[T]: ...
@overload
def subscribe(fn: Callable[[Callable[[], None]], object], /, **options: Unpack[_LastOptions]) -> Stream[None]: ...
@overload
def subscribe(
    fn: Callable[[A, Callable[[], None]], object], a: A, /, **options: Unpack[_LastOptions]
) -> Stream[None]: ...
@overload
def subscribe(
    fn: Callable[[A, B, Callable[[], None]], object], a: A, b: B, /, **options: Unpack[_LastOptions]
) -> Stream[None]: ...
@overload
def subscribe(
    fn: Callable[[A, B, C, Callable[[], None]], object], a: A, b: B, c: C, /, **options: Unpack[_LastOptions]
) -> Stream[None]: ...
@overload
def subscribe(
    fn: Callable[[Callable[[T, T2, *Events], None]], object], /, **options: Unpack[_LastOptions]
) -> Stream[tuple[T, T2, *Events]]: ...
@overload
def subscribe(
    fn: Callable[[A, Callable[[T, T2, *Events], None]], object], a: A, /, **options: Unpack[_LastOptions]
) -> Stream[tuple[T, T2, *Events]]: ...
@overload
def subscribe(
    fn: Callable[[A, B, Callable[[T, T2, *Events], None]], object], a: A, b: B, /, **options: Unpack[_LastOptions]
) -> Stream[tuple[T, T2, *Events]]: ...
@overload
def subscribe(
    fn: Callable[[A, B, C, Callable[[T, T2, *Events], None]], object],
    a: A,
    b: B,
    c: C,
    /,
    **options: Unpack[_LastOptions],
) -> Stream[tuple[T, T2, *Events]]: ...
@overload
def subscribe(fn: Callable[..., object], /, *args: Any, **options: Unpack[_NamedOptions]) -> Stream[Any]: ...
@overload
def subscribe(**options: Unpack[_LastOptions]) -> _Last: ...
@overload
def subscribe(**options: Unpack[_NamedOptions]) -> _Untyped: ...
# Ignored: mypy does not see that `*args: Any` accepts `*args: *Ts`.
def subscribe(  # type: ignore[misc]
    fn: Callable[..., object] | None = None,
    /,
    *args: Any,
    unsubscribe: Callable[..., object] | None = None,
    callback: str | None = None,
    errback: str | None = None,
    capacity: int = 1024,
    overflow: Overflow = "error",
    timeout: float | None = None,
    high_watermark: int = 0,
    low_watermark: int = 0,
) -> Any:
    """Call `fn` with `args` and a callback, and return a Stream of what the callback is called with.

    ::

        async with aiobridge.subscribe(sdk.on_message, "topic", unsubscribe=sdk.off_message) as messages:
            async for message in messages:
                print(message)

    An event is None, the one argument of the callback, or a tuple of several; keyword arguments, if there are any, are
    a dict after them. The callback may come on any thread, before `fn` has returned, and with locks of the library
    held: it returns None at once (but with ``overflow="block"``), and raises nothing. When the library lets go of its
    callbacks, the stream ends (in a free-threaded Python, which frees things on the thread that made them: when that
    thread next runs). Keyword arguments for `fn` go into a ``functools.partial``.

    `unsubscribe`: called once when the stream is closed, whichever way: ``async with`` is left, ``aclose()``,
    the last reference is dropped, an overflow, an error, the loop is closed. It is given what `fn` returned; where that
    is None, `args` and the callback after them, if its signature takes that, or `args` alone. With a callback that the
    library let go of itself it is not called. It runs on aiobridge's hook thread, before ``async with`` and
    ``aclose()`` have ended, and may wait for the library's locks and threads; it has the GIL, which it must give up
    meanwhile if the library calls back with these locks held or on these threads, as functions of ctypes and cffi do.

    `callback`, `errback`: the names of the parameters that take these. Without `callback` it is passed as the last
    positional argument. An exception that `errback` is called with ends the stream, and is raised after the events
    before it; anything else becomes a CallbackError.

    `capacity`, `overflow`, `timeout`, `high_watermark`, `low_watermark`: as make_stream's, but that an event without
    room is an error, since the library does not ask what became of it.

    The thread must run a loop, to which the stream belongs; RuntimeError where none runs. What `fn` raises is raised,
    with the stream closed and `unsubscribe` not called.

    Without `fn` a decorator is returned: each call of the decorated function, or method, returns a Stream.
    """
    options = _Options(capacity, overflow, timeout, high_watermark, low_watermark)

    def api_of(function: Callable[..., object]) -> CallbackApi:
        return CallbackApi("subscribe", function, callback, errback, ("unsubscribe", unsubscribe))

    if fn is not None:
        return _start(api_of(fn), options, args, {})
    if args:
        raise TypeError("subscribe() subscribes with a function that takes a callback, and was given None")
    return lambda decorated: _adapt(api_of(decorated), options)


def _adapt(api: CallbackApi, options: _Options) -> Callable[..., Stream[Any]]:
    def call(*args: Any, **kwargs: Any) -> Stream[Any]:
        return _start(api, options, args, kwargs)

    return api.wrap(call, Stream[Any])  # type: ignore[arg-type]


def _start(api: CallbackApi, options: _Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any]:
    writer, stream = options.make()
    done = _make_callback(writer)
    try:
        handle = api.call(args, kwargs, done, writer.fail)
        if api.undo is not None:
            stream.on_close(api.undo_hook(handle, args, kwargs, done))
    except BaseException:
        # The library may hold its callback, and the traceback the stream.
        stream.aclose()
        raise
    return stream


def _make_callback(writer: Writer[Any]) -> Callable[..., None]:
    def done(*arguments: Any, **keywords: Any) -> None:
        writer.push(event_of(all_told(arguments, keywords)))

    return done


_public: Any = subscribe
_public.__module__ = "aiobridge"  # where users find it
