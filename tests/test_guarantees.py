"""docs/guarantees.md: what it says is tested is, by tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
TEXT = (ROOT / "docs" / "guarantees.md").read_text()
FAULTS = re.findall(r"^\| (\d\d) \| [^|]+ \| ([^|]+) \| ([^|]*) \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line", re.findall(r"^\| [A-Z].*test_\w+\.py.*$", TEXT, re.MULTILINE))
def test_every_guarantee_names_tests_that_exist(line):
    column = line.split("|")[2]
    for file, names in re.findall(r"`((?:\w+/)?test_\w+\.py)`:?((?:[,\s]*`…[^`]*`)*)", column):
        source = (TESTS / file).read_text()
        for name in re.findall(r"`…([^`]*)`", names):
            pattern = name.replace("…", r"\w*")
            assert re.search(rf"def test_\w*{pattern}", source), f"{file} has no test …{name}"
    for file in re.findall(r"`(tests/cpp/\w+\.cpp)`", column):
        assert (ROOT / file).exists()


def test_every_fault_names_the_files_that_have_its_tests():
    assert [int(number) for number, *_ in FAULTS] == list(range(1, 55))
    for number, files, _note in FAULTS:
        having = {
            f"faults/{file.name}"
            for file in (TESTS / "faults").glob("*.py")
            if f"def test_{number}_" in file.read_text()
        }
        assert set(re.findall(r"`([^`]+)`", files)) == having
        assert having
