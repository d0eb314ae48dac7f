"""What type checkers make of a Stream: never run, checked by mypy and pyright."""

from collections.abc import AsyncIterator
from typing import Any, assert_type

from aiobridge import Stream, StreamStats


class Tick:
    price: float


async def iterated(stream: Stream[Tick]) -> None:
    async with stream as ticks:
        assert_type(ticks, Stream[Tick])
        async for tick in ticks:
            assert_type(tick, Tick)
        assert_type([tick.price async for tick in ticks], list[float])
        assert_type(await anext(ticks), Tick)
        assert_type(await anext(ticks, None), Tick | None)


async def taken(stream: Stream[Tick]) -> None:
    assert_type(await stream.get(), Tick)
    assert_type(stream.get_nowait(), Tick)
    async for batch in stream.batches():
        assert_type(batch, list[Tick])
    async for batch in stream.batches(max_items=10, max_delay=0.5):
        assert_type(batch, list[Tick])
    array: Any
    async for array in stream.arrays(max_items=4096):
        array.sum()
    await stream.aclose()


def asked(stream: Stream[Tick]) -> None:
    assert_type(stream.closed, bool)
    assert_type(stream.dropped, int)
    assert_type(stream.qsize(), int)
    assert_type(stream.stats(), StreamStats)
    assert_type(stream.stats().evicted, int)


def as_iterator(stream: Stream[Tick]) -> AsyncIterator[object]:
    return stream


async def refused(stream: Stream[Tick]) -> None:
    stream.batches("10")  # type: ignore[arg-type]
    stream.closed = True  # type: ignore[misc]
    for tick in stream:  # type: ignore[attr-defined]
        del tick
    async for number in stream:
        number + 1  # type: ignore[operator]
