"""Builds small projects against the installed package, as users do, and keeps what was built."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from aiobridge import _paths


class BuildError(Exception):
    """What the compiler said."""


def build(project: Path, folder: Callable[[str], Path], settings: Mapping[str, str] | None = None) -> Path:
    """Once for each state of the project and the package; `folder` makes one with this name. Returns where it is."""
    options = [f"{name}={value}" for name, value in (settings or {}).items()]
    state = hashlib.sha256(
        f"{sys.version} {sys.prefix} {options} {version('pybind11')} {os.environ.get('CXX')}".encode()
    )
    for file in sorted([*project.rglob("*.*"), *Path(_paths.get_include()).rglob("*.h")]):
        if file.is_file():
            state.update(file.read_bytes())
    target = folder(f"{project.name}-{state.hexdigest()[:16]}")
    if not (target / "built").exists():
        command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--upgrade"]
        command += ["--quiet", "--disable-pip-version-check", "--target", str(target), str(project)]
        command += [f"--config-settings={option}" for option in options]  # Debian 12's pip knows no -C
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            raise BuildError(f"{project} does not build:\n{done.stdout}\n{done.stderr}")
        (target / "built").touch()
    return target
