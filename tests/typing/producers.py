"""What type checkers make of a Promise, a Writer and a scope: never run, checked by mypy and pyright."""

from typing import Any, assert_type

import aiobridge
from aiobridge import CloseReason, Fate, Promise, Writer


def made() -> None:
    assert_type(aiobridge.make_promise(), tuple[Promise[Any], aiobridge.Future[Any]])
    assert_type(aiobridge.make_stream(16, "drop_oldest", timeout=1), tuple[Writer[Any], aiobridge.Stream[Any]])
    aiobridge.make_stream(overflow="forget")  # type: ignore[arg-type]


def fulfilled(promise: Promise[int]) -> None:
    assert_type(promise.set_result(1), Fate)
    assert_type(promise.set_exception(ValueError()), Fate)
    assert_type(promise.cancelled(), bool)
    assert_type(promise.close_reason(), CloseReason)
    promise.on_cancel(lambda reason: print(reason.value))
    promise.set_result("one")  # type: ignore[arg-type]


def pushed(writer: Writer[int]) -> None:
    with writer:
        assert_type(writer.push(1), Fate)
        assert_type(writer.push(1).is_accepted, bool)
        assert_type(writer.ready(), bool)
    assert_type(writer.close(), bool)
    assert_type(writer.abort(), bool)
    writer.push("one")  # type: ignore[arg-type]


def contravariant(writer: Writer[object]) -> Writer[int]:
    return writer


async def scoped() -> None:
    async with aiobridge.scope(timeout=None, name="a name") as scope:
        assert_type(scope, aiobridge.Scope)


def left_behind(error: aiobridge.ScopeTimeout) -> tuple[TimeoutError, tuple[str, ...]]:
    return error, error.left
