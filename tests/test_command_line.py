"""`python -m aiobridge`: what it tells build tools, and its help."""

import importlib.resources
import shlex
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import command_line
import pytest

from aiobridge import __main__


def test_version_is_the_installed_version(tmp_path: Path) -> None:
    result = command_line.run("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, version("aiobridge") + "\n")


def test_includes_are_flags_for_a_compiler(tmp_path: Path) -> None:
    flags = shlex.split(command_line.run("--includes", cwd=tmp_path).stdout)
    assert all(flag.startswith("-I") for flag in flags)
    folders = [Path(flag.removeprefix("-I")) for flag in flags]
    assert (folders[0] / "aiobridge" / "aiobridge.h").is_file()
    assert Path(sysconfig.get_path("include")) in folders


@pytest.mark.parametrize(
    ("flag", "file"), [("--cmakedir", "aiobridgeConfig.cmake"), ("--pkgconfigdir", "aiobridge.pc")]
)
def test_the_folders_for_build_tools_hold_their_files(tmp_path: Path, flag: str, file: str) -> None:
    result = command_line.run(flag, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert (Path(result.stdout.removesuffix("\n")) / file).is_file()


def test_a_folder_that_was_not_installed_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    assert __main__.main(["--cmakedir"]) == 1
    assert capsys.readouterr().err.startswith("aiobridge: no folder share/cmake/aiobridge in the installed package")


def test_nothing_given_prints_help(tmp_path: Path) -> None:
    result = command_line.run(cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("usage: aiobridge ")
    assert "demo" in result.stdout


def test_help_does_not_import_the_demo(tmp_path: Path) -> None:
    code = "import sys; from aiobridge.__main__ import main; main([]); print('aiobridge._demo' in sys.modules)"
    output = command_line.run(command=[sys.executable, "-c", code], cwd=tmp_path).stdout
    assert output.splitlines()[-1] == "False"
