"""The command `aiobridge bench`: the benchmarks in a process of their own, and how their native half is built."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from aiobridge import _building, _paths

NEEDED = ("pyperf", "rich", "numpy", "pybind11", "scikit_build_core", "pip")
BuildError = _building.BuildError


def run(arguments: Sequence[str]) -> int:
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if missing:
        print(f"aiobridge bench needs {', '.join(missing)}: pip install 'aiobridge[bench]'", file=sys.stderr)
        return 1
    if sys.platform == "linux":
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-P", _paths.get_benchmarks_dir(), *arguments])
    print("aiobridge bench runs on Linux: it measures with epoll, eventfd and /proc", file=sys.stderr)
    return 1


def build(benchmarks: Path) -> Path:
    """The folder of the native half, which is built once for each state of it."""
    return _building.build(benchmarks / "native", _folder)


def _folder(name: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aiobridge"
    folder = cache / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
