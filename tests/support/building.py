"""The native test module, built against the installed package, as users build theirs."""

import os
from collections.abc import Callable
from pathlib import Path

from aiobridge._building import BuildError, build

__all__ = ["NATIVE", "BuildError", "build", "build_native"]

NATIVE = Path(__file__).parent.parent / "native"


def build_native(folder: Callable[[str], Path]) -> Path:
    """With the sanitizers of the run, if it has any. AIOBRIDGE_TEST_NATIVE is a folder where it was built before."""
    if built := os.environ.get("AIOBRIDGE_TEST_NATIVE"):
        return Path(built)
    sanitize = os.environ.get("AIOBRIDGE_TEST_SANITIZE")
    settings = {"cmake.define.SANITIZE": sanitize, "install.strip": "false"} if sanitize else {}
    return build(NATIVE, folder, settings)
