"""What was measured: as a table, as JSON, as charts."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pyperf
from measure import Case
from rich.console import Console
from rich.markup import escape
from rich.table import Table

PACKAGES = ("aiobridge", "uvloop", "pybind11", "numpy", "janus", "culsans", "obstore", "pyperf")
PERCENTILES = (99.0, 99.9)
COLOURS = {"aiobridge": "#2a6", "floor": "#ccc"}
OTHERS = "#b55"


def circumstances() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "cpu": processor(),
        "platform": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
        "load": f"{os.getloadavg()[0]:.2f}",
        **found,
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def show(case: Case, console: Console) -> None:
    table = Table(title=f"{case.question}: {case.title}", title_justify="left", min_width=100)
    table.add_column("")
    bytes_ = any(result.get_unit() == "byte" for result in case.results.values())
    sampled = any(case.is_distribution(name) for name in case.results)
    rates = not bytes_ and not sampled and case.question != "B8"
    for column in ("median", "± MAD", *(PERCENTILES if sampled else []), *(["a second"] if rates else []), "ratio"):
        table.add_column(f"p{column:g}" if isinstance(column, float) else column, justify="right")
    for name, result in case.results.items():
        median = result.median()
        cells = [name, text(result, median), spread(result)]
        if sampled:
            cells += [percentile(result, p) if case.is_distribution(name) else "" for p in PERCENTILES]
        if rates:
            cells.append(f"{1 / median:,.0f}")
        ratio = case.ratio(name)
        cells.append("" if ratio is None else "1" if name == case.reference else f"{ratio:.2f}")
        table.add_row(*cells, style="bold" if name == case.reference else None)
    for name, why in case.missing().items():
        table.add_row(name, escape(why), style="dim")
    console.print(table)


def text(result: pyperf.Benchmark, value: float) -> str:
    return f"{value:,.0f}" if result.get_unit() == "byte" else result.format_value(value)


def percentile(result: pyperf.Benchmark, percent: float) -> str:
    """Of fewer values it would be the largest one."""
    return text(result, result.percentile(percent)) if result.get_nvalue() * (100 - percent) >= 100 else ""


def spread(result: pyperf.Benchmark) -> str:
    return f"{result.median_abs_dev() / result.median():.0%}" if result.get_nvalue() > 1 else ""


def save(cases: Sequence[Case], circumstances: Mapping[str, str], file: Path) -> None:
    """As pyperf does it: `python -m pyperf show FILE`, or `compare_to` another one."""
    suite = pyperf.BenchmarkSuite([result for case in cases for result in case.results.values()])
    for benchmark in suite.get_benchmarks():
        benchmark.update_metadata(dict(circumstances))
    file.parent.mkdir(parents=True, exist_ok=True)
    suite.dump(str(file), replace=True)


def colour(name: str) -> str:
    return next((colour for part, colour in COLOURS.items() if part in name), OTHERS)


def plot(cases: Sequence[Case], folder: Path) -> list[Path]:
    """One PNG for each case: medians, with the spread of the middle half."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, case in enumerate((case for case in cases if case.results), 1):
        names = list(case.results)
        medians = [case.results[name].median() for name in names]
        spreads = [[case.results[name].percentile(p) for name in names] for p in (25, 75)]
        # Rounded, a percentile may lie on the wrong side by the last bit, which matplotlib refuses.
        errors = [[max(m - low, 0.0) for m, low in zip(medians, spreads[0], strict=True)]]
        errors.append([max(high - m, 0.0) for m, high in zip(medians, spreads[1], strict=True)])
        figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(names) + 1.2), layout="constrained")
        axes.barh(names, medians, xerr=errors, color=[colour(name) for name in names])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlabel(case.results[names[0]].get_unit() + "s")
        axes.set_title(f"{case.question}: {case.title}", loc="left", fontsize="medium")
        files.append(folder / f"{number:02}-{case.question.lower()}.png")
        figure.savefig(files[-1])
        pyplot.close(figure)
    return files
