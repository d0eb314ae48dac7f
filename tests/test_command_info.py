"""`python -m aiobridge info`: what it says of the machine and of its loops."""

import asyncio
import json
import os
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import command_line
import pytest

from aiobridge import __main__

SETTINGS = ("AIOBRIDGE_WAKEUP", "AIOBRIDGE_POOL_THREADS")


def info(cwd: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    return command_line.run("info", *arguments, cwd=cwd, env={**env, **settings})


def test_info_is_one_aligned_line_for_each_thing(tmp_path: Path) -> None:
    result = info(tmp_path, AIOBRIDGE_WAKEUP="fd")
    assert (result.returncode, result.stderr) == (0, "")
    rows = dict(re.split(" {2,}", line, maxsplit=1) for line in result.stdout.splitlines())
    assert rows["aiobridge"] == f"{version('aiobridge')}, ABI 1.0"
    assert rows["Python"].startswith(f"{platform.python_implementation()} {platform.python_version()}, ")
    assert rows["platform"] == platform.platform()
    assert rows["wakers"] == "call_soon, fd (default)"
    assert re.fullmatch(r"\d+ threads?", rows["pool"])
    assert rows["AIOBRIDGE_WAKEUP"] == "'fd'"
    assert re.fullmatch(r"asyncio\.\S+EventLoop, woken by fd", rows["asyncio's loop"])
    columns = {line.index(value) for line, value in zip(result.stdout.splitlines(), rows.values(), strict=True)}
    assert len(columns) == 1


@pytest.mark.parametrize("wakeup", ["", "call_soon", "fd"])
def test_info_says_what_woke_each_loop(tmp_path: Path, wakeup: str) -> None:
    pytest.importorskip("uvloop")
    report = json.loads(info(tmp_path, "--json", AIOBRIDGE_WAKEUP=wakeup).stdout)
    assert report["uvloop"] == version("uvloop")
    assert report["wakeup"] == {"works": ["call_soon", "fd"], "default": wakeup or "call_soon"}
    assert report["environment"] == {"AIOBRIDGE_WAKEUP": wakeup}
    assert report["loops"].keys() == {"asyncio", "uvloop"}
    assert report["loops"]["uvloop"]["class"] == "uvloop.Loop"
    for loop in report["loops"].values():
        assert loop["wakeup"] == (wakeup or "call_soon")
        assert loop["deliveries"] == 1
        assert loop["wakes"] == 1


def test_info_knows_the_abi_of_the_runtime(tmp_path: Path) -> None:
    report = json.loads(info(tmp_path, "--json").stdout)
    header = Path(report["folders"]["include"], "aiobridge", "c_api.h").read_text()
    numbers = re.findall(r"#define AIOBRIDGE_ABI_M(?:AJOR|INOR) (\d+)", header)
    assert report["aiobridge"] == {"version": version("aiobridge"), "abi": ".".join(numbers)}


@pytest.mark.parametrize("threads", ["", "3"])
def test_info_knows_the_size_of_the_pool(tmp_path: Path, threads: str) -> None:
    code = """
import asyncio, aiobridge
from aiobridge import _core, _demo, _info

async def main():
    threads = _core.settings()["pool_threads"]
    await _demo.Search("x").file(_info.__file__)
    aiobridge.configure(pool_threads=threads)  # raises if the pool has another size

asyncio.run(main())
"""
    env = {**os.environ, "AIOBRIDGE_POOL_THREADS": threads}
    command = [sys.executable, "-P", "-c", code]
    result = command_line.run(command=command, cwd=tmp_path, env=env)
    assert (result.returncode, result.stderr) == (0, "")


def test_info_without_uvloop_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert __main__.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("uvloop")] == ["uvloop          not installed"]


class Deaf(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, *args: Any, **more: Any) -> Any:
        """Does nothing: who is called by another thread never hears of it."""


def test_info_says_of_a_loop_without_readers_why_it_has_another_waker(tmp_path: Path) -> None:
    # In a process of its own: that such a loop was closed is only found out by the next post.
    code = """
import asyncio, sys
from aiobridge.__main__ import main

class WithoutReaders(asyncio.SelectorEventLoop):
    def add_reader(self, *args):
        raise NotImplementedError

sys.modules["uvloop"] = None
asyncio.new_event_loop = WithoutReaders
sys.exit(main(["info"]))
"""
    command, env = [sys.executable, "-P", "-c", code], {**os.environ, "AIOBRIDGE_WAKEUP": "fd"}
    result = command_line.run(command=command, cwd=tmp_path, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    assert "__main__.WithoutReaders, woken by call_soon, because it has no readers\n" in result.stdout
    assert re.search("^wakers +call_soon$", result.stdout, re.MULTILINE)


def test_info_names_a_loop_that_is_not_woken_and_what_would_wake_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aiobridge import _info

    monkeypatch.setattr(_info, "PATIENCE", 0.1)
    monkeypatch.setattr(asyncio, "new_event_loop", Deaf)
    monkeypatch.setitem(sys.modules, "uvloop", None)
    monkeypatch.delenv("AIOBRIDGE_WAKEUP", raising=False)
    assert __main__.main(["info"]) == 1
    out, err = capsys.readouterr()
    why = "a native result did not arrive within 0.1 s"
    assert f"asyncio's loop  does not work: {why}\n" in out
    assert "\nwakers          fd\n" in out
    assert err == f"aiobridge info: asyncio's loop does not work with aiobridge: {why}; try AIOBRIDGE_WAKEUP=fd\n"


def test_info_names_what_a_loop_raises() -> None:
    from aiobridge import _info

    def no_loop() -> asyncio.AbstractEventLoop:
        raise OSError("out of order")

    assert _info.try_loop(no_loop) == {"error": "OSError: out of order"}
