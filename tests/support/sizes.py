"""How often tests repeat what goes wrong once in a while: AIOBRIDGE_TEST_SIZE is `short` (the default) or `long`."""

import os

SIZE = os.environ.get("AIOBRIDGE_TEST_SIZE") or "short"
if SIZE not in ("short", "long"):
    raise ValueError(f"AIOBRIDGE_TEST_SIZE is {SIZE!r}; it must be 'short' or 'long'")


def _of(short: int, long: int) -> int:
    return long if SIZE == "long" else short


SANITIZER = os.environ.get("AIOBRIDGE_TEST_SANITIZE", "")  # with one everything takes several times as long
SLOWNESS = 10 if SANITIZER == "thread" else 1  # by which what has a limit may take longer

# Processes for each way of leaving, with each loop and each waker.
EXITS = _of(1, 5) if SANITIZER else _of(5, 50)
LOOPS = _of(200, 1000)  # made and closed one after another
FORKS = _of(5, 50)
PATIENCE = _of(60, 1200)  # seconds until a test that repeats is taken for one that hangs
# Of each race, with each loop and each waker. ThreadSanitizer runs them ten times as slowly as the others do.
RACE_ROUNDS = {"": _of(2_000, 100_000), "thread": _of(50, 500)}.get(SANITIZER, _of(500, 10_000))
RACE_PATIENCE = _of(120, 7200)  # seconds until such a test is taken for one that hangs
