"""The command `aiobridge info`: versions, settings and folders, and what wakes the loops here, found out by trying."""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import json
import os
import platform
import sys
import sysconfig
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import aiobridge
from aiobridge import _core, _demo

NewLoop = Callable[[], asyncio.AbstractEventLoop]
VARIABLES = ("AIOBRIDGE_WAKEUP", "AIOBRIDGE_POOL_THREADS")
WAKEUPS = ("call_soon", "fd")
PATIENCE = 10.0  # seconds for one result; a loop that is not woken would wait for ever


def run(as_json: bool) -> int:
    report = collect()
    print(json.dumps(report, indent=2) if as_json else as_text(report))
    failed = {name: loop["error"] for name, loop in report["loops"].items() if "error" in loop}
    others = [wakeup for wakeup in report["wakeup"]["works"] if wakeup != report["wakeup"]["default"]]
    remedy = f"try AIOBRIDGE_WAKEUP={others[0]}" if others else "please report it, with what is printed here"
    for name, error in failed.items():
        print(f"aiobridge info: {name}'s loop does not work with aiobridge: {error}; {remedy}", file=sys.stderr)
    return 1 if failed else 0


def collect() -> dict[str, Any]:
    settings = _core.settings()
    new_loops: dict[str, NewLoop] = {"asyncio": asyncio.new_event_loop}
    uvloop_version = None
    if importlib.util.find_spec("uvloop"):
        import uvloop

        new_loops["uvloop"] = uvloop.new_event_loop
        uvloop_version = version("uvloop")
    loops = {name: try_loop(new_loop) for name, new_loop in new_loops.items()}
    # Asked for one by one, because a loop can have another one than it was asked for.
    works = [wakeup for wakeup in WAKEUPS if try_loop(asyncio.new_event_loop, wakeup).get("wakeup") == wakeup]
    return {
        "aiobridge": {"version": aiobridge.__version__, "abi": settings["abi"]},
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "compiler": platform.python_compiler(),
            "build": build(),
        },
        "uvloop": uvloop_version,
        "platform": platform.platform(),
        "wakeup": {"works": works, "default": settings["wakeup"]},
        "pool_threads": settings["pool_threads"],
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "loops": loops,
        "folders": {
            "package": os.path.dirname(aiobridge.__file__),
            "include": aiobridge.get_include(),
            "cmake": aiobridge.get_cmake_dir(),
            "pkgconfig": aiobridge.get_pkgconfig_dir(),
        },
    }


def build() -> list[str]:
    """What can make an extension module of one Python fail in another of the same version."""
    kinds = {"free-threaded": "Py_GIL_DISABLED", "debug": "Py_DEBUG"}
    return [f"{8 * ctypes.sizeof(ctypes.c_void_p)} bit"] + [
        kind for kind, variable in kinds.items() if sysconfig.get_config_var(variable)
    ]


def try_loop(new_loop: NewLoop, wakeup: Any = None) -> dict[str, Any]:
    """What a new loop is, and what woke it when a native thread had a result for it."""
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(use_loop(wakeup))
    except TimeoutError:
        return {"error": f"a native result did not arrive within {PATIENCE:g} s"}
    except Exception as error:  # whatever a loop that does not fit raises: it is what was asked for
        return {"error": f"{type(error).__name__}: {error}"}


async def use_loop(wakeup: Any) -> dict[str, Any]:
    before = after = aiobridge.stats()
    aiobridge.configure(wakeup=wakeup)
    async with asyncio.timeout(PATIENCE):
        while after.deliveries == before.deliveries:  # a fast thread can have the result before anybody waits
            await _demo.Search("a text").file(__file__)
            after = aiobridge.stats()
    kind = type(asyncio.get_running_loop())
    return {
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "wakeup": _core.settings()["loop_wakeup"],
        "wakes": after.wakes - before.wakes,
        "deliveries": after.deliveries - before.deliveries,
        "fd_fallbacks": after.fd_fallbacks - before.fd_fallbacks,
    }


def as_text(report: dict[str, Any]) -> str:
    python, wakeup = report["python"], report["wakeup"]
    wakers = (f"{name} (default)" if name == wakeup["default"] else name for name in wakeup["works"])
    rows = {
        "aiobridge": f"{report['aiobridge']['version']}, ABI {report['aiobridge']['abi']}",
        "Python": ", ".join([f"{python['implementation']} {python['version']}", python["compiler"], *python["build"]]),
        "uvloop": report["uvloop"] or "not installed",
        "platform": report["platform"],
        "wakers": ", ".join(wakers),
        "pool": f"{report['pool_threads']} thread{'' if report['pool_threads'] == 1 else 's'}",
        **{name: repr(value) for name, value in report["environment"].items()},
        **{f"{name}'s loop": loop_as_text(loop) for name, loop in report["loops"].items()},
        **report["folders"],
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())


def loop_as_text(loop: dict[str, Any]) -> str:
    if "error" in loop:
        return f"does not work: {loop['error']}"
    has_no_readers = ", because it has no readers" if loop["fd_fallbacks"] else ""
    return f"{loop['class']}, woken by {loop['wakeup']}{has_no_readers}"
