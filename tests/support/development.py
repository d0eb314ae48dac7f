"""What Python's development mode, if the tests run in it, tells on a script's stderr beside what is tested."""

import re
import sys

# Scripts leave loops and files open.
SETTINGS = {"PYTHONWARNINGS": "ignore::ResourceWarning"} if sys.flags.dev_mode else {}

_SLOW = re.compile(r"^Executing <.*> took \d+\.\d+ seconds\n", re.MULTILINE)


def without_slowness(stderr: str) -> str:
    """Without what asyncio's debug mode tells of a busy machine."""
    return _SLOW.sub("", stderr) if sys.flags.dev_mode else stderr
