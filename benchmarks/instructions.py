"""Counts the instructions of the hot paths, which repeats exactly where times do not.

    python -P benchmarks/instructions.py [--check | --update]

The same path so many times, and then twice as often, under callgrind: the difference is what it costs. The figures
depend on the compiler, the C library and the Python, so instructions.json has them for each of those that they were
counted with. `--check` fails if one has changed by more than 3 %; with others it only says that it knows nothing. (From
one folder to another, `batched_event` differs by 1.3 %: the C library finds its memory in other places.)
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiobridge import _bench

HERE = Path(__file__).parent
KNOWN = HERE / "instructions.json"
PATHS = {
    "make": 2_000,
    "push": 4_000,
    "set_value": 2_000,
    "operation": 1_000,
    "event": 4_000,
    "batched_event": 4_000,
    "record": 8_000,
}
TOLERANCE = 0.03


def versions() -> str:
    compiler = subprocess.run(["c++", "-dumpfullversion"], check=True, capture_output=True, text=True).stdout.strip()
    libc = " ".join(platform.libc_ver())
    return (
        f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}, c++ {compiler}, {libc}"
    )


def total(folder: Path, path: str, count: int) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=bench_counted"]
        command += [f"--callgrind-out-file={scratch}/out"]
        # Address space randomisation changes hash tables of addresses, and with them what is executed.
        command = ["setarch", "-R", *command, sys.executable, "-P", str(HERE / "hot_path.py"), str(folder)]
        clock = next(folder.glob("*frozen_clock*"))
        environment = {**os.environ, "PYTHONHASHSEED": "0", "LD_PRELOAD": str(clock)}
        done = subprocess.run(
            [*command, path, str(count)], capture_output=True, text=True, env=environment, check=False
        )
        collected = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or not collected:
            raise RuntimeError(f"callgrind of {path} failed:\n{done.stderr}")
        return int(collected[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if a figure has changed")
    parser.add_argument("--update", action="store_true", help="write instructions.json")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("valgrind is not installed, so nothing was counted", file=sys.stderr)
        return 1
    folder = _bench.build(HERE)
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    here = versions()
    before = known.get(here, {})
    print(here + ("" if before else ": nothing is known about it"))
    with ThreadPoolExecutor(os.cpu_count()) as runs:
        totals = {
            path: [runs.submit(total, folder, path, times * count) for times in (1, 2)] for path, count in PATHS.items()
        }
    counted, changed = {}, []
    for path, (once, twice) in totals.items():
        counted[path] = round((twice.result() - once.result()) / PATHS[path], 1)
        line = f"  {path:15} {counted[path]:10,.1f} instructions"
        if path in before:
            change = counted[path] / before[path] - 1
            line += f", {change:+.1%}"
            if abs(change) > TOLERANCE:
                changed.append(path)
        print(line, flush=True)
    if options.update:
        KNOWN.write_text(json.dumps({**known, here: counted}, indent=2) + "\n")
    elif options.check and changed:
        print(f"changed: {', '.join(changed)}. If it is meant: --update", file=sys.stderr)
        return 1
    elif options.check and not before:
        print("nothing was compared. On a commit that is trusted: --update", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
