"""The command `aiobridge bench`: builds the native half of the benchmarks, and runs them in a process of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aiobridge import _building, _paths

NEEDED = ("pyperf", "rich", "numpy", "pybind11", "scikit_build_core")


def run(arguments: Sequence[str]) -> int:
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if missing:
        print(f"aiobridge bench needs {', '.join(missing)}: pip install 'aiobridge[bench]'", file=sys.stderr)
        return 1
    command = [sys.executable, "-P", _paths.get_benchmarks_dir()]
    if not {"-h", "--help"} & set(arguments):
        try:
            command += ["--native", str(build(Path(_paths.get_benchmarks_dir())))]
        except _building.BuildError as error:
            print(f"aiobridge bench: {error}", file=sys.stderr)
            return 1
    return subprocess.run([*command, *arguments], check=False).returncode


def build(benchmarks: Path) -> Path:
    """The folder of the native half, which is built once for each state of it."""
    return _building.build(benchmarks / "native", _folder)


def _folder(name: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aiobridge"
    folder = cache / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
