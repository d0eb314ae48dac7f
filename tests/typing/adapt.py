"""What pyright and mypy know about awaitable and subscribe. Checked, not run."""

from collections.abc import Callable
from typing import Any, assert_type

import aiobridge
from aiobridge import Future, Stream


class Message: ...


def read(fd: int, size: int, on_done: Callable[[bytes], None]) -> int:
    return 0


def sync(on_done: Callable[[], object]) -> None: ...
def close(fd: int, on_done: Callable[[], object]) -> None: ...
def lookup(name: str, on_done: Callable[[int, str], object]) -> None: ...
def stat(fd: int, path: str, on_done: Callable[[int, str, bytes], object]) -> None: ...
def fetch(url: str, on_done: Callable[[Exception | None, bytes], object]) -> None: ...
def anything(*args: Any, **kwargs: Any) -> Any: ...
def abort(fd: int) -> None: ...
def on_message(topic: str, on_message: Callable[[Message], None]) -> int:
    return 0


def on_tick(on_tick: Callable[[], None]) -> None: ...
def on_key(window: int, on_key: Callable[[str, int], None]) -> None: ...
def off_message(handle: int) -> None: ...


async def check_awaitable(untyped: Callable[..., Any]) -> None:
    assert_type(aiobridge.awaitable(read)(3, 4096), Future[bytes])
    assert_type(await aiobridge.awaitable(read, cancel=abort)(3, 4096), bytes)
    assert_type(aiobridge.awaitable(sync)(), Future[None])
    assert_type(aiobridge.awaitable(close)(3), Future[None])
    assert_type(aiobridge.awaitable(lookup)("localhost"), Future[tuple[int, str]])
    assert_type(aiobridge.awaitable(stat)(3, "."), Future[tuple[int, str, bytes]])
    assert_type(aiobridge.awaitable(fetch, error_first=True)("https://python.org"), Future[bytes])
    assert_type(aiobridge.awaitable(read, callback="on_done", errback="on_error")(3, size=1), Future[Any])
    assert_type(await aiobridge.awaitable(untyped)(1), Any)
    assert_type(await aiobridge.awaitable(anything, cancel=abort)(1, key=2), Any)
    aiobridge.awaitable(read)("3", 4096)  # type: ignore[arg-type]
    aiobridge.awaitable(read)(3)  # type: ignore[call-arg]


@aiobridge.awaitable
def bare(fd: int, on_done: Callable[[bytes], object]) -> None: ...


@aiobridge.awaitable(cancel=abort)
def with_options(fd: int, on_done: Callable[[bytes], object]) -> None: ...


@aiobridge.awaitable(error_first=True)
def with_error_first(fd: int, on_done: Callable[[int, bytes], object]) -> None: ...


@aiobridge.awaitable(callback="on_done", errback="on_error")
def by_name(fd: int, *, on_done: Callable[[bytes], object], on_error: Callable[[int], object]) -> None: ...


@aiobridge.subscribe(unsubscribe=off_message, capacity=16, overflow="drop_oldest")
def messages(topic: str, on_message: Callable[[Message], object]) -> int:
    return 0


@aiobridge.subscribe(callback="on_message")
def messages_by_name(topic: str, *, on_message: Callable[[Message], object]) -> None: ...


class Device:
    @aiobridge.awaitable
    def read(self, size: int, on_done: Callable[[bytes], object]) -> None: ...

    @aiobridge.awaitable(cancel=abort)
    def write(self, data: bytes, on_done: Callable[[], object]) -> None: ...

    @aiobridge.subscribe(unsubscribe=off_message)
    def keys(self, on_key: Callable[[str, int], object]) -> None: ...


async def check_decorated(device: Device) -> None:
    assert_type(bare(3), Future[bytes])
    assert_type(with_options(3), Future[bytes])
    assert_type(with_error_first(3), Future[bytes])
    assert_type(by_name(3), Future[Any])
    assert_type(messages("topic"), Stream[Message])
    assert_type(messages_by_name("topic"), Stream[Any])
    assert_type(device.read(1), Future[bytes])
    assert_type(device.write(b""), Future[None])
    assert_type(device.keys(), Stream[tuple[str, int]])


async def check_subscribe(untyped: Callable[..., Any]) -> None:
    async with aiobridge.subscribe(on_message, "topic", unsubscribe=off_message, overflow="drop_oldest") as events:
        assert_type(events, Stream[Message])
        async for event in events:
            assert_type(event, Message)
    assert_type(aiobridge.subscribe(on_tick), Stream[None])
    assert_type(aiobridge.subscribe(on_key, 7, capacity=1), Stream[tuple[str, int]])
    assert_type(aiobridge.subscribe(on_message, "topic", callback="on_message"), Stream[Any])
    assert_type(aiobridge.subscribe(untyped, 1, 2), Stream[Any])
    assert_type(aiobridge.subscribe(anything), Stream[Any])
