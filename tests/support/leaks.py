"""What LeakSanitizer looks at, if the tests run under it."""

import ctypes
import os


def only_here() -> None:
    """Look for leaks in this process: those that it starts are ended in the middle of things."""
    if "detect_leaks=1" not in os.environ.get("ASAN_OPTIONS", ""):
        return
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0"
    sanitizer = ctypes.CDLL(None)
    sanitizer.__lsan_disable()
    import numpy as np  # noqa: F401 - its import leaks some tuples

    sanitizer.__lsan_enable()
