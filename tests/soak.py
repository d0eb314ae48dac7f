#!/usr/bin/env python3
"""Hours of everything: a mixed load on every loop with every waker, after which the accounts balance.

    python tests/soak.py --minutes 5 [--seed S] [--loop asyncio|uvloop] [--wakeup call_soon|fd]

At the end every accepted event has had one fate, the producers have counted the same, no native object is left, and
memory has grown by less than 1 MB a minute in the second half. What is measured is the resident set at quiet moments:
nothing runs, garbage was collected, and malloc has given back what it could. So threads' arenas and caches that have
reached their size do not count, and fragmentation does. That moves by a megabyte from one moment to the next: the
standard error is printed beside it. It is printed and not judged in runs of less than 4 minutes, which are still
warming up, and under a sanitizer, which keeps freed memory on purpose.
"""

import argparse
import ctypes
import gc
import itertools
import math
import os
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))

import building
from loops import LOOPS

import aiobridge

LIVE = ("loops", "operations", "streams", "callbacks", "scopes", "hooks")
LIMIT = 1.0  # MB a minute
WARM = 4.0  # minutes; what is shorter has not stopped filling malloc's arenas in its second half
FATES = ("delivered", "evicted", "merged", "undelivered", "pending")


def resident() -> float:
    """MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def quiet() -> dict[str, int]:
    """Waits until nothing native lives; what does after 20 s."""
    deadline = time.monotonic() + 20
    while True:
        gc.collect()
        stats = aiobridge.stats()
        left = {name: getattr(stats, name) for name in LIVE if getattr(stats, name)}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
    return left


def growth(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """The slope through (seconds, MB) and its standard error, both in MB a minute."""
    times, sizes = zip(*samples, strict=True)
    slope, start = statistics.linear_regression(times, sizes)
    residue = sum((size - start - slope * when) ** 2 for when, size in samples) / (len(samples) - 2)
    error = math.sqrt(residue / (statistics.pvariance(times) * len(times)))
    return 60 * slope, 60 * error


def slice_of_load(load, new_loop, seconds: float) -> None:
    loop = new_loop()
    try:
        loop.run_until_complete(load.run(seconds))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def balance(accepted: int) -> list[str]:
    events = aiobridge.stats().events
    wrong = []
    if events.accepted != sum(getattr(events, name) for name in FATES):
        wrong.append(f"the fates of events do not add up: {events}")
    if events.accepted != accepted:
        wrong.append(f"{events.accepted} events were accepted, but the producers count {accepted}")
    if events.pending:
        wrong.append(f"{events.pending} events wait, and nobody is there")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--loop", choices=LOOPS)
    parser.add_argument("--wakeup", choices=("call_soon", "fd"))
    parser.add_argument("--native", type=Path, help="the folder of the native test module; without it, it is built")
    options = parser.parse_args()
    if not options.native:
        cache = Path(__file__).parent.parent / ".pytest_cache" / "d"
        cache.mkdir(parents=True, exist_ok=True)
        options.native = building.build_native(lambda name: (cache / name).mkdir(exist_ok=True) or cache / name)
    sys.path.insert(0, str(options.native))
    import load as loads

    loads.native.declare_tick()
    wakeups = [options.wakeup] if options.wakeup else ["call_soon", "fd"]
    loops = {options.loop: LOOPS[options.loop]} if options.loop else LOOPS
    modes = list(itertools.product(loops.items(), wakeups))
    print(f"seed {options.seed}; {', '.join(f'{name} {wakeup}' for (name, _), wakeup in modes)}", flush=True)
    done: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    accepted, wrong, samples = 0, [], []
    # Each half sees each mode several times.
    turns = max(options.minutes * 60 / len(modes) / 5, 1)
    turns = max(int(turns), 2 if options.minutes >= 1 else 1)
    length = options.minutes * 60 / turns / len(modes)
    started = time.monotonic()
    for turn, ((name, new_loop), wakeup) in itertools.product(range(turns), modes):
        aiobridge.configure(wakeup=wakeup)
        load = loads.Load(random.Random(f"{options.seed} {turn} {name} {wakeup}"), new_loop)
        slice_of_load(load, new_loop, length)
        seconds[f"{name} {wakeup}"] += length
        done += load.done
        accepted += load.accepted
        wrong += [f"{name} {wakeup}: the exception handler was told {text}" for text in load.complaints]
        del load
        if left := quiet():
            wrong.append(f"{name} {wakeup}: native objects are left: {left}")
        wrong += balance(accepted)
        samples.append((time.monotonic() - started, resident()))
        if wrong:
            break
    elapsed = time.monotonic() - started
    print(f"{elapsed:.0f} s:", ", ".join(f"{mode} {length:.0f} s" for mode, length in seconds.items()))
    for what, number in sorted(done.items()):
        print(f"  {what:20} {number:10,} {number / elapsed:12,.1f} a second")
    stats = aiobridge.stats()
    events = ", ".join(f"{field} {getattr(stats.events, field):,}" for field in stats.events.__slots__)
    print(f"  events: {events}")
    print(
        f"  wakes {stats.wakes:,}, drains {stats.drains:,}, deliveries {stats.deliveries:,}, misuses {stats.misuses:,}"
    )
    print("  MB resident at quiet moments:", " ".join(f"{size:.1f}" for _, size in samples))
    second_half = [sample for sample in samples if sample[0] > elapsed / 2]
    if len(second_half) >= 4:
        slope, error = growth(second_half)
        judged = options.minutes >= WARM and not os.environ.get("AIOBRIDGE_TEST_SANITIZE")
        print(f"  growth in the second half: {slope:+.2f} ± {error:.2f} MB a minute{'' if judged else ' (not judged)'}")
        if judged and slope >= LIMIT:
            wrong.append(f"memory grows by {slope:.2f} MB a minute")
    for text in wrong:
        print(f"WRONG: {text}")
    print("failed" if wrong else "balanced")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
