"""CPython's own tests of futures, of this interpreter's version, run against an aiobridge.Future.

Not one of them is skipped or changed. A private subclass adds what they need and what nobody else may have: a
constructor, set_result and set_exception.
"""

import asyncio
import functools

import pytest

from aiobridge import _core

test_futures = pytest.importorskip(
    "test.test_asyncio.test_futures",
    reason="this interpreter was installed without the package `test`",
    exc_type=ImportError,
)
test_futures2 = pytest.importorskip("test.test_asyncio.test_futures2", exc_type=ImportError)

# They were written for unittest's rules: some of what they leave behind, or ask for, warns.
pytestmark = pytest.mark.filterwarnings("default")

Future = _core._FutureForTests


def tearDownModule():
    test_futures.tearDownModule()


class SubFuture(Future):
    pass


class TestFuture(test_futures.CFutureTests):
    cls = Future


class TestSubFuture(test_futures.CSubFutureTests):
    cls = SubFuture


class TestDoneCallbacks(test_futures.CFutureDoneCallbackTests):
    def _new_future(self):
        return Future(loop=self.loop)


class TestSubFutureDoneCallbacks(test_futures.CSubFutureDoneCallbackTests):
    def _new_future(self):
        return SubFuture(loop=self.loop)


class TestInheritance(test_futures.CFutureInheritanceTests):
    def _get_future_cls(self):
        return Future


class TestDuck(test_futures.DuckTests):
    """Ours is no asyncio.Future either."""

    def setUp(self):
        super().setUp()
        theirs = test_futures.DuckFuture
        self.addCleanup(setattr, test_futures, "DuckFuture", theirs)
        test_futures.DuckFuture = functools.partial(Future, loop=self.loop)


async def complete(futures, coroutine):
    # In a list, because the exception's traceback keeps this frame, which must not keep the future.
    try:
        result = await coroutine
    except Exception as error:
        futures.pop().set_exception(error)
    else:
        futures.pop().set_result(result)


def future_of(coroutine):
    """Make a future that gets what the coroutine returns or raises, and ends in its context if nobody else has it."""
    future = Future()
    asyncio.create_task(complete([future], coroutine))  # noqa: RUF006 (the loop has it in its queue)
    return future


class TestAwait(test_futures2.CFutureTests):
    cls = staticmethod(future_of)
