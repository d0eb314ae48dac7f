"""B6: what does it weigh? Each figure is the resident set of a process of its own: see weigh.py."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import bench_native
from contenders import Size, Weighed
from measure import Case

WEIGH = Path(__file__).parent / "weigh.py"


def in_process(what: str, count: int) -> Weighed:
    def run() -> float:
        command = [sys.executable, "-P", str(WEIGH), what, str(count), str(Path(bench_native.__file__).parent)]
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    return Weighed(run)


def cases(size: Size) -> Iterator[Case]:
    count = min(size.largest, 200_000)
    yield Case(
        "B6",
        f"bytes for each of {count:,} pending operations",
        {"aiobridge": in_process("operations", count), "asyncio.Future": in_process("asyncio_futures", count)},
        "aiobridge",
    )
    yield Case(
        "B6",
        f"bytes for each of {count:,} events of 24 bytes that wait",
        {
            "aiobridge": in_process("events", count),
            "asyncio.Queue of tuples": in_process("asyncio_queue", count),
            "floor: the payload": Weighed(lambda: 24.0),
        },
        "aiobridge",
    )
    through = size.largest * 10
    yield Case(
        "B6",
        f"bytes that the process grows by while {through:,} events go through",
        {"aiobridge": in_process("through", through), "asyncio.Queue": in_process("through_asyncio_queue", through)},
        "aiobridge",
    )
