"""The benchmarks: `aiobridge bench` runs this."""

import argparse
import importlib.util
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="aiobridge bench", description="Measures aiobridge and its peers in one run.")
    parser.add_argument("questions", nargs="*", metavar="B1", help="of B1 to B8; all by default")
    parser.add_argument("--full", action="store_true", help="take longer, for figures that repeat better")
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # does it run?
    parser.add_argument("--native", type=Path, default=".", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="save what was measured, for pyperf")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw charts, as PNG")
    options = parser.parse_args()
    if options.plot and not importlib.util.find_spec("matplotlib"):
        parser.error("--plot needs matplotlib: pip install 'aiobridge[bench]'")
    sys.path.insert(0, str(options.native))

    import b1_operations
    import b2_latency
    import b3_events
    import b4_records
    import b5_producers
    import b6_memory
    import b7_growth
    import b8_start
    import contenders
    import measure
    import report
    from rich.console import Console

    modules = {
        "B1": b1_operations,
        "B2": b2_latency,
        "B3": b3_events,
        "B4": b4_records,
        "B5": b5_producers,
        "B6": b6_memory,
        "B7": b7_growth,
        "B8": b8_start,
    }
    wanted = list(dict.fromkeys(name.upper() for name in options.questions)) or list(modules)
    if unknown := [name for name in wanted if name not in modules]:
        parser.error(f"there is no question {', '.join(unknown)}; there are {', '.join(modules)}")
    size = contenders.TINY if options.tiny else contenders.FULL if options.full else contenders.SHORT
    console = Console()
    report.show_circumstances(console)
    cases = []
    for case in measure.all_of([modules[name] for name in wanted], size):
        measure.measure(case, size)
        report.show(case, console)
        cases.append(case)
    if options.json:
        report.save(cases, options.json)
    if options.plot:
        report.plot(cases, options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
