"""Builds downstream projects against the installed package, as users do."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiobridge

NATIVE = Path(__file__).parent.parent / "native"


class BuildError(Exception):
    """What the compiler said."""


def build(project: Path, folder: Callable[[str], Path]) -> Path:
    """Once for each state of the project and the package; `folder` makes one with this name. Returns where it is."""
    sanitize = os.environ.get("AIOBRIDGE_TEST_SANITIZE", "") if project == NATIVE else ""
    headers = Path(aiobridge.get_include())
    state = hashlib.sha256(f"{sys.version} {sys.prefix} {sanitize}".encode())
    for file in sorted([*project.rglob("*.*"), *headers.rglob("*.h")]):
        if file.is_file():
            state.update(file.read_bytes())
    target = folder(f"{project.name}-{state.hexdigest()[:16]}")
    if not (target / "built").exists():
        command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--upgrade"]
        command += ["--quiet", "--disable-pip-version-check", "--target", str(target), str(project)]
        if sanitize:
            command += ["-C", f"cmake.define.SANITIZE={sanitize}", "-C", "install.strip=false"]
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            raise BuildError(f"{project} does not build:\n{done.stdout}\n{done.stderr}")
        (target / "built").touch()
    return target
