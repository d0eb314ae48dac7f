"""`aiobridge bench`, as a user runs it: every question is answered, and what is not installed says so."""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "aiobridge", "bench"]
TIMEOUT = 550  # seconds, for a run that builds and compiles
NEEDED = ("matplotlib", "numpy", "pyperf", "rich", "pybind11", "scikit_build_core")

with_extra = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason="needs the extra: pip install 'aiobridge[bench]'"
)


def bench(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    faulthandler.cancel_dump_traceback_later()  # which pytest has set for tests that hang
    command, variables = [*COMMAND, *arguments], {**os.environ, "COLUMNS": "200", **environment}
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=TIMEOUT)


def test_without_the_extra_it_says_what_is_needed(run_python):
    done = run_python(
        """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "pyperf" else find_spec(name, *more)
from aiobridge.__main__ import main
sys.exit(main(["bench"]))
"""
    )
    assert (done.returncode, done.stderr) == (1, "aiobridge bench needs pyperf: pip install 'aiobridge[bench]'\n")


@with_extra
@pytest.mark.timeout(600)
def test_every_question_is_answered(tmp_path: Path) -> None:
    import pyperf

    done = bench("--tiny", "--json", "out/figures.json", "--plot", "plots", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^cores \d+$", done.stdout, re.MULTILINE)
    suite = pyperf.BenchmarkSuite.load(str(tmp_path / "out" / "figures.json"))
    assert {name.partition(":")[0] for name in suite.get_benchmark_names()} == {f"B{n}" for n in range(1, 9)}
    assert all(value > 0 for benchmark in suite for value in benchmark.get_values())
    names = " ".join(suite.get_benchmark_names())
    for contender in (
        "aiobridge, fd",
        "aiobridge, call_soon",
        "by hand",
        "run_in_executor",
        "floor",
        "asyncio",
        "uvloop",
    ):
        assert contender in names
    for peer in filter(importlib.util.find_spec, ("janus", "culsans", "obstore")):
        assert peer in names
    tables = re.findall(r"^B\d: ", done.stdout, re.MULTILINE)
    assert len(list((tmp_path / "plots").glob("*.png"))) == len(tables)


@with_extra
@pytest.mark.timeout(600)
def test_one_question_can_be_asked_and_a_peer_that_is_missing_says_so(tmp_path: Path) -> None:
    # Found before what is installed, as it stands in a folder of PYTHONPATH; aiobridge's -P leaves that.
    (tmp_path / "janus.py").write_text("raise ModuleNotFoundError('no janus here', name='janus')\n")
    (tmp_path / "culsans.py").write_text("raise ImportError('broken')\n")
    done = bench("--tiny", "b3", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^(B\d): ", done.stdout, re.MULTILINE)) == {"B3"}
    assert re.search(r"janus, .*not installed: pip install 'aiobridge\[bench\]'", done.stdout)
    assert re.search(r"culsans, .*does not import: broken", done.stdout)


@with_extra
def test_a_question_that_there_is_not_is_refused(tmp_path: Path) -> None:
    done = bench("--tiny", "B9", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no question B9; there are B1, B2" in done.stderr
