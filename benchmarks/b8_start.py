"""B8: what does it cost to begin?"""

import functools
import io
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import files
from pathlib import Path

import bench_native
import pybind11
from contenders import Contender, Missing, Size, Timed, Weighed
from measure import Case, timed

import aiobridge

ONE_FUNCTION = Path(__file__).parent / "native" / "one_function"
FOLDER = Path(bench_native.__file__).parent


def in_new_process(prepare: str, measured: str) -> Timed:
    """Seconds that one statement takes, after another one."""
    script = f"import sys, time; sys.path.insert(0, {str(FOLDER)!r})\n{prepare}\n"
    script += f"started = time.perf_counter()\n{measured}\nprint(time.perf_counter() - started)"
    command = [sys.executable, "-P", "-c", script]

    def run(_: int) -> float:
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)

    return Timed(run, at_most=1)


def compiling(name: str, folder: Path) -> Contender:
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    if not shutil.which(compiler[0]):
        return Missing(f"no compiler {compiler[0]!r}: set CXX")
    includes = [pybind11.get_include(), aiobridge.get_include(), sysconfig.get_path("include")]
    command = [*compiler, "-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-shared", "-s"]
    command += [*(f"-I{folder}" for folder in includes), str(ONE_FUNCTION / f"{name}.cpp"), "-o", str(folder / name)]
    return Timed(lambda _: timed(functools.partial(subprocess.run, command, check=True)), at_most=1, rare=True)


def installed_files() -> list[Path]:
    """Without what Python compiles when it imports."""
    paths = [Path(str(file.locate())) for file in files("aiobridge") or []]
    return [path for path in paths if path.suffix != ".pyc" and path.is_file()]


def installed() -> float:
    return float(sum(file.stat().st_size for file in installed_files()))


def zipped() -> float:
    """As a wheel has them."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in installed_files():
            archive.write(file, str(file).lstrip("/"))
    return float(len(packed.getvalue()))


def size_of(file: Path) -> Callable[[], float]:
    return lambda: float(file.stat().st_size)


def cases(size: Size) -> Iterator[Case]:
    add = "import asyncio, {module}\nasync def main():\n    return await {call}"
    yield Case(
        "B8",
        "imports and the first await, each in a new process",
        {
            "import aiobridge, after asyncio": in_new_process("import asyncio", "import aiobridge"),
            "import asyncio": in_new_process("", "import asyncio"),
            "asyncio.run of one native operation": in_new_process(
                add.format(module="bench_native", call="bench_native.ours(1)"), "asyncio.run(main())"
            ),
            "asyncio.run of one asyncio.to_thread": in_new_process(
                add.format(module="bench_native", call="asyncio.to_thread(bench_native.blocking, 1)"),
                "asyncio.run(main())",
            ),
        },
        "import aiobridge, after asyncio",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield Case(
            "B8",
            "compiling a module with one function",
            {"aiobridge": compiling("awaitable", folder), "pybind11 alone": compiling("plain", folder)},
            "pybind11 alone",
        )
        built: dict[str, Contender] = {
            name: Weighed(size_of(folder / file)) if (folder / file).exists() else Missing("it was not compiled")
            for name, file in (("the module, aiobridge", "awaitable"), ("the module, pybind11 alone", "plain"))
        }
        contenders = {"aiobridge, as installed": Weighed(installed), "aiobridge, as a wheel": Weighed(zipped), **built}
        yield Case("B8", "bytes on disk", contenders, "aiobridge, as installed")
