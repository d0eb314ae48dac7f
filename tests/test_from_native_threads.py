"""How to call Python from a boost thread? The examples that answer it, and the same with Boost itself."""

import asyncio
import contextlib
import gc
import importlib
import os
import subprocess
import sys
import weakref
from pathlib import Path

import native
import pytest
from development import without_slowness
from waiting import until

TESTS = Path(__file__).parent
EXAMPLE = TESTS.parent / "examples" / "from_native_threads"

pytestmark = pytest.mark.timeout(240)  # the first test builds


@pytest.fixture(scope="session")
def example(build_project):
    sys.path.append(str(build_project(EXAMPLE)))
    return importlib.import_module("from_native_threads")


@pytest.fixture(scope="session")
def boost(build_project):
    headers = [Path(prefix) / "include" / "boost" / "asio.hpp" for prefix in ("/usr", "/usr/local", "/opt/homebrew")]
    if not any(header.exists() for header in headers):
        pytest.skip("Boost is not installed: apt-get install libboost-thread-dev")
    sys.path.append(str(build_project(TESTS / "boost")))
    return importlib.import_module("boost_threads")


@contextlib.contextmanager
def errors_of_the_loop():
    """Note what the loop's exception handler is told."""
    loop = asyncio.get_running_loop()
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    yield told
    loop.set_exception_handler(None)


def fail(*args):
    raise LookupError(*args)


def test_the_example_as_it_stands(example, wakeup):
    done = subprocess.run(
        [sys.executable, "-P", str(EXAMPLE / "main.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(Path(example.__file__).parent), "AIOBRIDGE_WAKEUP": wakeup},
    )
    assert without_slowness(done.stderr) == ""
    assert done.stdout.splitlines() == [
        "[1, 2, 3]",
        "[0, 1, 2, 3, 4, 5, 6, 7]",
        "10000 callables went through the queue",
        "spam",
    ]


async def test_with_gil(example):
    class Unspeakable:
        def __repr__(self):
            raise LookupError("no words")

    assert await example.describe({"a": 1}) == "{'a': 1}"
    with pytest.raises(RuntimeError, match="LookupError: no words"):
        await example.describe(Unspeakable())
    assert await asyncio.gather(*(example.describe(number) for number in range(50))) == [str(n) for n in range(50)]


async def test_the_callable_on_threads_that_never_held_the_gil(example):
    measured = []

    def listener(number):
        measured.append(number)

    gone = weakref.ref(listener)
    sensor = example.Sensor(listener)
    del listener
    await asyncio.to_thread(sensor.measure, 8)
    await until(lambda: len(measured) == 8)
    assert sorted(measured) == list(range(8))
    del sensor
    gc.collect()
    await until(lambda: gone() is None)


async def test_an_exception_of_the_callable(example):
    with errors_of_the_loop() as told:
        await asyncio.to_thread(example.Sensor(fail).measure, 8)
        await until(lambda: len(told) == 8)
    assert {type(error) for error in told} == {LookupError}


async def test_ten_thousand_callables_through_the_queue(example):
    done = []

    class Work:
        def __init__(self, number):
            self.number = number

        def __call__(self):
            done.append(self.number)

    queue = example.WorkQueue(threads=8)
    works = [Work(number) for number in range(10_000)]
    gone = [weakref.ref(work) for work in works]
    while works:
        queue.post(works.pop())
    await asyncio.to_thread(queue.close)
    await until(lambda: len(done) == 10_000)
    assert sorted(done) == list(range(10_000))
    await until(lambda: not any(reference() for reference in gone))


async def test_callables_that_raise_in_the_queue(example):
    with errors_of_the_loop() as told:
        queue = example.WorkQueue(threads=8)
        for _ in range(100):
            queue.post(fail)
        await asyncio.to_thread(queue.close)
        await until(lambda: len(told) == 100)


async def test_call_later(example):
    said = []
    example.call_later(0.001, said.append)
    await until(lambda: said)
    assert said == ["spam"]
    with errors_of_the_loop() as told:
        example.call_later(0, fail)
        await until(lambda: told)
    assert told[0].args == ("spam",)


async def test_boost_thread(boost):
    said = []
    for _ in range(8):
        boost.call_later(0.001, said.append)
    await until(lambda: len(said) == 8)
    with errors_of_the_loop() as told:
        boost.call_later(0, fail)
        await until(lambda: told)


async def test_boost_asio_thread_pool(boost):
    pool = boost.Pool(8)
    done, said = [], []
    for number in range(10_000):
        pool.post(lambda number=number: done.append(number))
    pool.call_later(0.001, said.append)
    await until(lambda: len(done) == 10_000)
    assert sorted(done) == list(range(10_000))
    await until(lambda: said)

    async def double(number):
        await asyncio.sleep(0)
        return 2 * number

    assert await asyncio.gather(*(pool.ask(number, double) for number in range(100))) == list(range(0, 200, 2))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        await pool.ask(0, lambda number: 1 // number)
    received = [event async for event in pool.count(1_000, 4)]
    for strand in range(4):
        assert [event for event in received if event % 4 == strand] == list(range(strand, 4_000, 4))
    with errors_of_the_loop() as told:
        pool.post(fail)
        await until(lambda: told)
    await asyncio.to_thread(pool.join)
    assert await native.add(1) == 2
