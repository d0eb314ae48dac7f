#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox"]
# ///
"""The steps of .ci/run, one by one, and those that take longer: `nox -l`."""

import os
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests", "cpp"]
nox.options.default_venv_backend = "virtualenv"

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "aiobridge"
os.environ["PATH"] += f":{CACHE / 'python-3.13t' / 'bin'}"

PYTHONS = ["3.11", "3.12", "3.13", "3.13t"]

# What differs between interpreters: the core, the C API of Python that it uses, what inspect says of signatures. The
# command line, the examples and the wheel are the same everywhere.
CORE = [
    f"tests/{name}.py"
    for name in (
        "faults/test_cancellation",
        "faults/test_completion",
        "faults/test_drain",
        "faults/test_dropped",
        "faults/test_free_threading",
        "faults/test_interpreter_exit",
        "faults/test_interrupts",
        "faults/test_modules",
        "faults/test_streams",
        "faults/test_threads_at_exit",
        "test_awaitable",
        "test_awaitable_cancel",
        "test_callback",
        "test_callback_limits",
        "test_cpython_futures",
        "test_future_protocol",
        "test_record",
        "test_resumption",
        "test_scope",
        "test_subscribe",
    )
]


@nox.session(python=False, name="python-3.13t")
def free_threaded_python(session: nox.Session) -> None:
    """Builds a free-threaded Python for the sessions that end in 3.13t."""
    session.run(".ci/python-3.13t", str(CACHE / "python-3.13t"), external=True)


def without_a_gil(session: nox.Session) -> bool:
    return str(session.python).endswith("t")


def install(session: nox.Session) -> None:
    """aiobridge as users install it, and what its tests need."""
    if without_a_gil(session):
        # Not from source, which needs tools of other languages; and no wheel of uvloop or cffi is for it.
        session.install("--only-binary=hypothesis,numpy", ".[test-core]")
    else:
        session.install(".[test]")


# 3.14 and 3.15 for whoever has them: nobody has run them yet.
@nox.session(python=[*PYTHONS, "3.14", "3.15"])
def tests(session: nox.Session) -> None:
    """The Python tests."""
    install(session)
    session.run("pytest", *(session.posargs or (CORE if without_a_gil(session) else [])))


@nox.session(name="tests-as")
@nox.parametrize("setting", ["AIOBRIDGE_TEST_LOOPS=no_readers", "PYTHONDEVMODE=1"])
def tests_as(session: nox.Session, setting: str) -> None:
    """The Python tests on loops without readers, and in Python's development mode with asyncio's debug mode.

    Always at their ordinary size: what is repeated does not depend on either.
    """
    session.install(".[test]")
    session.run("pytest", *session.posargs, env={"AIOBRIDGE_TEST_SIZE": "short", **dict([setting.split("=")])})


@nox.session(python=["3.12", "3.13"])
def core(session: nox.Session) -> None:
    """Those tests that can differ between interpreters."""
    session.install(".[test-core]", "uvloop")
    session.run("pytest", *CORE, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatters, linters and types."""
    session.install(".[lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("pyright")
    # What was installed, as its users' type checkers see it; so not in this folder, whose `aiobridge` comes first.
    allowlist = Path("tests/typing/stubtest.txt").resolve()
    with session.chdir(session.create_tmp()):
        session.run(
            "python", "-P", "-m", "mypy.stubtest", "--allowlist", str(allowlist), "aiobridge._core", "aiobridge._demo"
        )
        session.run("pyright", "--verifytypes", "aiobridge", "--ignoreexternal")
    files = session.run("git", "ls-files", "*.h", "*.cpp", external=True, silent=True).split()
    session.run("clang-format", "--dry-run", "-Werror", *(name for name in files if "examples" not in name))


@nox.session
@nox.parametrize("sanitize", ["thread", "address,undefined"])
def cpp(session: nox.Session, sanitize: str) -> None:
    """The C++ tests, under a sanitizer."""
    session.install("cmake>=3.24", "ninja")
    build = session.create_tmp()
    session.run("cmake", "-S", "tests/cpp", "-B", build, "-G", "Ninja", f"-DSANITIZE={sanitize}")
    session.run("cmake", "--build", build)
    # Without address space randomisation: older kernels and this compiler's sanitizers disagree about it.
    session.run("setarch", "-R", "ctest", "--test-dir", build, "--output-on-failure", external=True)


@nox.session
def sanitize(session: nox.Session) -> None:
    """The Python tests under AddressSanitizer and UndefinedBehaviorSanitizer, with pauses where threads meet."""
    options = {
        "cmake.define.AIOBRIDGE_SANITIZE": "address,undefined",
        "cmake.define.AIOBRIDGE_TEST_PAUSES": "ON",
        "cmake.build-type": "RelWithDebInfo",
        "install.strip": "false",
    }
    session.install(".[test]", *(f"--config-settings={name}={value}" for name, value in options.items()))
    compiler = shutil.which("g++") or "g++"
    libraries = [
        session.run(compiler, f"-print-file-name={name}", external=True, silent=True).strip()
        # With libasan alone, the first C++ exception aborts.
        for name in ("libasan.so", "libstdc++.so")
    ]
    session.run(
        "pytest",
        "-o",
        "timeout=180",
        *session.posargs,
        env={
            "LD_PRELOAD": " ".join(libraries),
            "PYTHONMALLOC": "malloc",
            # Up to GCC 13, LeakSanitizer takes some thread-local blocks that begin 16 bytes into a page for blocks of
            # an older glibc, follows what lies before them as an address, and crashes: google/sanitizers#1322.
            "ASAN_OPTIONS": "detect_leaks=1:intercept_tls_get_addr=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "AIOBRIDGE_TEST_SANITIZE": "address,undefined",
        },
    )


@nox.session(python=False, name="thread-sanitizer")
def thread_sanitizer(session: nox.Session) -> None:
    """The Python tests of the core, on a free-threaded Python, under ThreadSanitizer."""
    session.run(".ci/thread-sanitizer", *(session.posargs or [*CORE, "tests/races"]), external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks, tiny, and the instructions of the hot paths against those that are known."""
    session.install(".[test,bench]")
    session.run("pytest", "tests/test_bench.py")
    session.run("python", "-P", "benchmarks/instructions.py", "--check")


@nox.session(python=PYTHONS)
def fuzz(session: nox.Session) -> None:
    """Hostile callers of the Python surface and of the C ABI, each for `-- SECONDS`, or 600."""
    seconds = session.posargs[0] if session.posargs else "600"
    install(session)
    session.run("pytest", "tests/fuzz", "-s", "-o", "timeout=0", env={"AIOBRIDGE_FUZZ_SECONDS": seconds})
    settings = {"PYTHON": f"{session.bin}/python", "AIOBRIDGE_FUZZ_DIR": session.create_tmp()}
    session.run("tests/fuzz/abi/run.sh", seconds, external=True, env=settings)


@nox.session(python=PYTHONS)
def soak(session: nox.Session) -> None:
    """A mixed load for `-- MINUTES`, or 10, after which the accounts balance."""
    install(session)
    session.run("python", "-P", "tests/soak.py", "--minutes", session.posargs[0] if session.posargs else "10")


@nox.session(python=False)
def long(session: nox.Session) -> None:
    """All of it, at its long size, on every interpreter: hours."""
    os.environ["AIOBRIDGE_TEST_SIZE"] = "long"
    os.environ["PYTEST_ADDOPTS"] = "-o faulthandler_timeout=7500"  # a race may take RACE_PATIENCE
    session.notify("python-3.13t")
    for version in PYTHONS:
        if not version.endswith("t"):
            session.run(f"python{version}", "-c", "", external=True)  # nox itself passes over what is not here
        session.notify(f"tests-{version}", ["tests"] if version.endswith("t") else [])
        session.notify(f"soak-{version}")
        session.notify(f"fuzz-{version}")
    for setting in ("AIOBRIDGE_TEST_LOOPS=no_readers", "PYTHONDEVMODE=1"):
        session.notify(f"tests-as(setting='{setting}')")
    for sanitize in ("thread", "address,undefined"):
        session.notify(f"cpp(sanitize='{sanitize}')")
    for name in ("sanitize", "thread-sanitizer"):
        session.notify(name)
