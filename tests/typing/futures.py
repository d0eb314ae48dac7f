"""What type checkers make of a Future: never run, checked by mypy and pyright."""

import asyncio
from collections.abc import Awaitable
from typing import assert_type

import aiobridge
from aiobridge import Future


async def awaited(future: Future[int], other: Future[str], nothing: Future[None]) -> None:
    assert_type(await future, int)
    assert_type(await asyncio.wait_for(future, 1), int)
    assert_type(await asyncio.gather(future, other), tuple[int, str])
    assert_type(await asyncio.shield(future), int)
    await nothing
    async with asyncio.TaskGroup() as group:
        task = group.create_task(as_coroutine(future))
    assert_type(task.result(), int)


async def as_coroutine(future: Awaitable[int]) -> int:
    return await future


def asked(future: Future[int]) -> None:
    assert_type(future.result(), int)
    assert_type(future.result(timeout=0.5), int)
    assert_type(future.exception(), BaseException | None)
    assert_type(future.cancel(), bool)
    assert_type(future.cancel("enough"), bool)
    assert_type(future.done() or future.cancelled(), bool)
    assert_type(future.get_loop(), asyncio.AbstractEventLoop)
    future.add_done_callback(lambda done: assert_type(done.result(), int))
    future.add_done_callback(on_done)
    assert_type(future.remove_done_callback(on_done), int)


def on_done(future: Future[int]) -> str:
    return str(future.result())


def on_done_with_text(future: Future[str]) -> None: ...


def refused(future: Future[int]) -> None:
    future.result("soon")  # type: ignore[arg-type]
    future.add_done_callback(on_done_with_text)  # type: ignore[arg-type]
    future.set_result(1)  # type: ignore[attr-defined]


def covariant(future: Future[bool]) -> Future[int]:
    return future


class Heir(aiobridge.Future[int]): ...  # type: ignore[misc]
