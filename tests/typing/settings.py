"""What type checkers make of the functions, and of the exceptions: never run, checked by mypy and pyright."""

from typing import assert_type

import aiobridge


def set_up() -> None:
    aiobridge.configure()
    aiobridge.configure(wakeup="fd", pool_threads=4)
    aiobridge.configure(wakeup="poll")  # type: ignore[arg-type]
    aiobridge.configure("fd")  # type: ignore[call-arg]


def figures() -> None:
    stats = aiobridge.stats()
    assert_type(stats, aiobridge.Stats)
    assert_type(stats.operations, int)
    assert_type(stats.events, aiobridge.StreamStats)
    assert_type(stats.events.accepted, int)
    stats.loops = 0  # type: ignore[misc]


def folders() -> None:
    assert_type(aiobridge.get_include(), str)
    assert_type(aiobridge.get_cmake_dir(), str)
    assert_type(aiobridge.get_pkgconfig_dir(), str)
    assert_type(aiobridge.__version__, str)


def errors(error: aiobridge.BridgeError, end: aiobridge.EndOfStream) -> tuple[RuntimeError, EOFError]:
    return error, end
