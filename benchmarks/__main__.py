"""The benchmarks: `aiobridge bench` runs this."""

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path

from aiobridge import _bench

QUESTIONS = {
    "B1": "b1_operations",
    "B2": "b2_latency",
    "B3": "b3_events",
    "B4": "b4_records",
    "B5": "b5_producers",
    "B6": "b6_memory",
    "B7": "b7_growth",
    "B8": "b8_start",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="aiobridge bench", description="Measures aiobridge and its peers in one run.")
    parser.add_argument("questions", nargs="*", metavar="B1", help="of B1 to B8; all by default")
    parser.add_argument("--full", action="store_true", help="take longer, for figures that repeat better")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # does it run?
    parser.add_argument("--json", type=Path, metavar="FILE", help="save what was measured, for pyperf")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw charts, as PNG")
    options = parser.parse_args()
    if options.plot and not importlib.util.find_spec("matplotlib"):
        parser.error("--plot needs matplotlib: pip install 'aiobridge[bench]'")
    wanted = list(dict.fromkeys(name.upper() for name in options.questions)) or list(QUESTIONS)
    if unknown := [name for name in wanted if name not in QUESTIONS]:
        parser.error(f"there is no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    try:
        sys.path.insert(0, str(_bench.build(Path(__file__).parent)))
    except _bench.BuildError as error:
        print(f"aiobridge bench: {error}", file=sys.stderr)
        return 1

    import contenders
    import measure
    import report
    from rich.console import Console

    size = contenders.TINY if options.tiny else contenders.FULL if options.full else contenders.SHORT
    console = Console()
    circumstances = report.circumstances()
    for name, value in circumstances.items():
        console.print(f"[bold]{name}[/bold] {value}", highlight=False)
    cases = []
    for case in measure.all_of([importlib.import_module(QUESTIONS[name]) for name in wanted], size):
        measure.measure(case, size)
        report.show(case, console)
        cases.append(case)
        if options.json:
            report.save(cases, circumstances, options.json)
    if options.plot:
        report.plot(cases, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
