"""examples/cpp_extension, a project to copy: it is built against the installed package, and its own tests are run."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "cpp_extension"

pytestmark = pytest.mark.timeout(300)  # the first test builds


@pytest.fixture
def run_there(build_project, tmp_path):
    """Run a module of Python's with the installed example, in an empty folder."""

    def run(*arguments, **settings):
        environment = {
            **os.environ,
            **settings,
            "PYTHONPATH": str(build_project(EXAMPLE)),
            "PYTHONDONTWRITEBYTECODE": "1",  # what is in the example's folder decides whether it is built again
        }
        return subprocess.run(
            [sys.executable, "-P", *arguments],
            capture_output=True,
            text=True,
            timeout=250,
            check=False,
            env=environment,
            cwd=tmp_path,
        )

    return run


def test_its_own_tests_pass(run_there, wakeup):
    there = ["-c", str(EXAMPLE / "pyproject.toml"), "--rootdir", str(EXAMPLE), str(EXAMPLE / "tests")]
    done = run_there("-m", "pytest", "-q", "-p", "no:cacheprovider", *there, AIOBRIDGE_WAKEUP=wakeup)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = (EXAMPLE / "tests" / "test_weather.py").read_text().count("\nasync def test_")
    assert re.search(rf"^{tests} passed", done.stdout, re.MULTILINE), done.stdout


def test_the_program_in_its_readme_runs(run_there):
    (program,) = re.findall(r"```python\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    done = run_there("-c", program)
    assert (done.returncode, done.stderr) == (0, "")
    *readings, mean, highest, sensors = [line for line in done.stdout.splitlines() if not line.startswith("sensor ")]
    numbers = [int(line.split()[0]) for line in readings]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert float(mean) == pytest.approx(10.45)
    assert float(highest) == pytest.approx(10.9)
    assert sensors == "[3]"


@pytest.mark.skipif("AIOBRIDGE_TEST_SANITIZE" in os.environ, reason="says nothing about memory, and takes minutes")
@pytest.mark.skipif(not find_spec("mypy"), reason="mypy is not installed")
def test_its_stub_is_its_module(run_there):
    done = run_there("-m", "mypy.stubtest", "--allowlist", str(EXAMPLE / "stubtest.txt"), "weather")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_installed_is_the_package_and_the_module(build_project):
    package = build_project(EXAMPLE) / "weather"
    installed = {re.sub(r"\.cpython-.*", "", file.name) for file in package.iterdir() if file.name != "__pycache__"}
    assert installed == {"__init__.py", "_ext", "_ext.pyi", "py.typed"}


def test_its_readme_names_what_exists():
    readme = (EXAMPLE / "README.md").read_text()
    (commands,) = re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)
    build, test, types = commands.splitlines()[1:]
    assert build == "pip install --no-build-isolation ."
    assert test == "pytest"
    assert types == "python -m mypy.stubtest --allowlist stubtest.txt weather"
    first_column = "".join(row.split("|")[1] for row in readme.splitlines() if row.startswith("|"))
    named = re.findall("`(.*?)`", first_column)
    assert len(named) == 8
    assert [name for name in named if not (EXAMPLE / name).exists()] == []
