"""The loops and wakers that every async test runs over, and the native test module.

With AIOBRIDGE_TEST_LOOPS=no_readers every loop is one without readers, as Windows' Proactor.
"""

import asyncio
import functools
import gc
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import building
import development
import leaks
import loops
import pytest
import sizes

import aiobridge

TESTS = Path(__file__).parent
LOOPS = {"asyncio": loops.LoopWithoutReaders} if os.environ.get("AIOBRIDGE_TEST_LOOPS") == "no_readers" else loops.LOOPS
NATIVE_OBJECTS = ("loops", "operations", "streams", "callbacks", "scopes", "hooks")


def build(config: pytest.Config, project: Path | None = None) -> Path:
    try:
        folder = config.cache.mkdir
        return building.build(project, folder) if project else building.build_native(folder)
    except building.BuildError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores SIGINT, and so would the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    leaks.only_here()
    sys.path.insert(0, str(build(config)))


def make_loop(new_loop: Callable[[], asyncio.AbstractEventLoop], wakeup: str) -> asyncio.AbstractEventLoop:
    loop = new_loop()
    # The first thing that the loop runs.
    loop.call_soon(functools.partial(aiobridge.configure, wakeup=wakeup))
    return loop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    return {
        f"{name}-{wakeup}": functools.partial(make_loop, new_loop, wakeup)
        for name, new_loop in LOOPS.items()
        for wakeup in ("call_soon", "fd")
    }


@pytest.fixture(scope="session")
def build_project(pytestconfig: pytest.Config) -> Callable[[Path], Path]:
    """Build a project of this repository against the installed package; returns the folder to import it from."""
    return functools.partial(build, pytestconfig)


@pytest.fixture(scope="session")
def native_folder() -> str:
    """Where the native test module is imported from."""
    return str(Path(importlib.import_module("native").__file__ or "").parent)


@pytest.fixture(params=["call_soon", "fd"])
def wakeup(request: pytest.FixtureRequest) -> str:
    """For tests that make their own loop or process."""
    return request.param


@pytest.fixture(params=["asyncio", "uvloop"])
def new_loop(request: pytest.FixtureRequest, wakeup: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Make a loop, of each kind with each waker, for tests that make their own."""
    if request.param not in LOOPS:
        pytest.skip(f"{request.param} is not there")
    return functools.partial(make_loop, LOOPS[request.param], wakeup)


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_type(request: pytest.FixtureRequest) -> type[asyncio.AbstractEventLoop]:
    """A loop's class, of each kind, to derive from."""
    return pytest.importorskip("uvloop").Loop if request.param == "uvloop" else asyncio.SelectorEventLoop


@pytest.fixture
def loop_class(loop_type: type[asyncio.AbstractEventLoop]) -> str:
    """Its name, for a script."""
    return "asyncio.SelectorEventLoop" if loop_type is asyncio.SelectorEventLoop else "__import__('uvloop').Loop"


@pytest.fixture
def run_python(tmp_path: Path, native_folder: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a process of its own, which can import the native test module."""

    def run(
        script: str, *, wakeup: str = "", timeout: float = 20, preload: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            **development.SETTINGS,
            "PYTHONPATH": native_folder,
            "AIOBRIDGE_WAKEUP": wakeup,
        }
        if preload:
            environment["LD_PRELOAD"] = str(preload)
        done = subprocess.run(
            [sys.executable, "-P", "-c", script],
            capture_output=True,
            text=True,
            timeout=timeout * sizes.SLOWNESS,
            check=False,
            env=environment,
            cwd=tmp_path,
        )
        done.stderr = development.without_slowness(done.stderr)
        return done

    return run


def live_native_objects() -> dict[str, int]:
    stats = aiobridge.stats()
    return {name: count for name in NATIVE_OBJECTS if (count := getattr(stats, name))}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if native objects are left: then something leaks."""
    deadline = time.monotonic() + 10
    while (left := live_native_objects()) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)  # native threads are still letting go
    if left:
        print(f"\nnative objects are left at the end: {left}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
