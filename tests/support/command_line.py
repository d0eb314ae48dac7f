"""The command `python -m aiobridge` in a process of its own, as a user runs it."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "aiobridge"]
TIMEOUT = 50  # seconds, for a process that takes one


def run(
    *arguments: str | Path, cwd: Path, command: Sequence[str] = COMMAND, **more: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT, **more)
