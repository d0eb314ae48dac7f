"""asyncio's debug mode changes nothing but what it tells."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import native
import pytest
import sizes

TESTS = Path(__file__).parent.parent
pytestmark = pytest.mark.timeout(sizes.PATIENCE)


@pytest.mark.skipif("AIOBRIDGE_TEST_SANITIZE" in os.environ, reason="runs tests again that the sanitized run has run")
@pytest.mark.parametrize(
    ("options", "environment", "files"),
    [
        (["-X", "dev"], {}, ["test_future.py", "test_stream.py", "test_callback.py"]),
        ([], {"PYTHONASYNCIODEBUG": "1"}, ["test_future.py"]),
    ],
    ids=["dev", "asyncio debug"],
)
def test_46_the_same_tests_pass_in_debug_mode(options, environment, files):
    done = subprocess.run(
        [sys.executable, "-P", *options, "-m", "pytest", "-q", *files],
        capture_output=True,
        text=True,
        cwd=TESTS,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def debugged(new_loop):
    def make():
        loop = new_loop()
        loop.set_debug(True)
        return loop

    return asyncio.Runner(loop_factory=make)


def test_46_a_future_cancelled_by_another_thread_in_debug_mode_is_cancelled(new_loop):
    """asyncio's own future cannot take that; ours can, in debug mode as without."""

    async def main():
        promise, future = native.make_Promise()
        threading.Timer(0, future.cancel, ["from elsewhere"]).start()
        with pytest.raises(asyncio.CancelledError, match="from elsewhere"):
            await future
        assert promise.reason == "cancelled"

    with debugged(new_loop) as runner:
        runner.run(main())


# Fails if a task is resumed inside the drain in debug mode: asyncio would then say that the drain was slow
def test_46_the_log_of_slow_callbacks_names_the_task_that_was_slow(caplog, new_loop):
    async def dawdle():
        await native.nothing()
        time.sleep(0.02)  # noqa: ASYNC251

    async def main():
        asyncio.get_running_loop().slow_callback_duration = 0.01
        await asyncio.create_task(dawdle(), name="the slow one")

    with caplog.at_level(logging.WARNING, "asyncio"), debugged(new_loop) as runner:
        runner.run(main())
    slow = [record.getMessage() for record in caplog.records if "took" in record.getMessage()]
    assert any("name='the slow one'" in message for message in slow)
    assert not any("drain" in message for message in slow)


def test_46_the_log_of_slow_callbacks_names_the_drain_its_loop_and_how_much_it_delivered(request, caplog, new_loop):
    if request.node.callspec.id == "uvloop-fd":
        pytest.skip("uvloop does not say that a reader was slow")

    async def main():
        loop = asyncio.get_running_loop()
        loop.slow_callback_duration = 0.01
        gate = native.ConversionGate()
        promise, future = native.make_ChosenPromise()
        promise.set("gated")
        threading.Timer(0.05, gate.open).start()
        assert await future == "gated"
        return f" at {id(loop):#x}, delivered 1>"

    with caplog.at_level(logging.WARNING, "asyncio"), debugged(new_loop) as runner:
        end = runner.run(main())
    slow = [record.getMessage() for record in caplog.records if "took" in record.getMessage()]
    assert any("<aiobridge drain, loop " in message and end in message for message in slow), slow
