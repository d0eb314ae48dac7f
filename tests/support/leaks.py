"""What LeakSanitizer looks at, if the tests run under it."""

import ctypes
import os


def only_here() -> None:
    """Look for leaks in this process: those that it starts are ended in the middle of things."""
    sanitizers, options = os.environ.get("AIOBRIDGE_TEST_SANITIZE", ""), os.environ.get("ASAN_OPTIONS", "")
    if "address" not in sanitizers or "detect_leaks=0" in options:
        return
    os.environ["ASAN_OPTIONS"] = f"{options}:detect_leaks=0"
    sanitizer = ctypes.CDLL(None)
    sanitizer.__lsan_disable()
    try:
        import numpy as np  # noqa: F401 - its import leaks some tuples
    finally:
        sanitizer.__lsan_enable()
