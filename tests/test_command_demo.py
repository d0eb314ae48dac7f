"""`python -m aiobridge demo`, run as a user runs it."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import command_line
import pytest

from aiobridge import __main__

needs_uvloop = pytest.mark.skipif(not find_spec("uvloop"), reason="uvloop is not installed")
LOOPS = pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=needs_uvloop)])

# More than a pipe (64 KiB) and the buffers at its ends hold, so that the writer waits for its reader.
MANY = 20_000


@contextmanager
def started(*arguments: str | Path, **more: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*more.pop("command", command_line.COMMAND), *arguments], text=True, **more)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in filter(None, (process.stdout, process.stderr)):
            pipe.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with the files that a search can trip over."""
    root = tmp_path / "tree"
    (root / "sub folder").mkdir(parents=True)
    (root / "empty").write_bytes(b"")
    (root / "text").write_bytes(b"no\nthe needle\nno\n")
    (root / "crlf").write_bytes(b"needle one\r\nno\r\nneedle two\r\n")
    (root / "no line break at the end").write_bytes(b"no\nneedle")
    (root / "binary").write_bytes(bytes(range(256)) * 300 + b"needle" + bytes(range(256)))
    (root / "latin").write_bytes("ü needle ü\n".encode("latin-1"))
    (root / "sub folder" / "long line").write_bytes(b"x" * 300_000 + b"needle\nneedle")
    (root / os.fsdecode(b"name \xff")).write_bytes(b"needle\n")
    return root


MATCHES_IN_TREE = 9


def big_tree(folder: Path) -> Path:
    root = folder / "big"
    root.mkdir()
    for number in range(200):
        lines = (f"needle {line} in file {number}, and some more text\n" for line in range(MANY // 200))
        (root / f"{number:03}").write_text("".join(lines))
    return root


@LOOPS
def test_check_agrees_with_python_on_files_of_all_kinds(tree: Path, loop: str) -> None:
    result = command_line.run("demo", tree, "--pattern", "needle", "--loop", loop, "--check", cwd=tree)
    assert (result.returncode, result.stderr) == (0, "")
    *matches, summary, check, time = result.stdout.splitlines()
    assert len(matches) == MATCHES_IN_TREE
    assert summary.startswith(f"{MATCHES_IN_TREE} matches of 'needle' in 8 of 8 files, ")
    assert re.search(rf", {loop}, pool of \d+$", summary)
    assert check == f"check: Python's own search finds the same {MATCHES_IN_TREE} matches"
    assert re.fullmatch(r"showing nothing: \S+ s; in Python .*: \S+ s, \d+\.\d times as long", time)


def test_matches_are_plain_lines_where_stdout_is_no_terminal(tree: Path) -> None:
    result = command_line.run("demo", tree / "crlf", "--pattern", "needle", cwd=tree)
    assert result.stdout.splitlines()[:-1] == [f"{tree}/crlf:1: needle one", f"{tree}/crlf:3: needle two"]


def test_what_files_hold_cannot_harm_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"\x1b[31m \xff")
    file.write_bytes(b"\x1b]0;needle\x07\ttab\r \xe2\x80\xae\xff" + b"x" * 1000 + b"\n")
    for encoding in ("utf-8", "ascii"):
        result = command_line.run(
            "demo",
            file,
            "--pattern",
            "needle",
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        line, summary = result.stdout.splitlines()
        assert line.startswith(f"{tmp_path}/\\x1b[31m \\udcff:1: \\x1b]0;needle\\x07")
        assert line.isprintable()
        assert len(line) < len(str(tmp_path)) + 300
        assert summary.startswith("1 match of ")
        assert (result.returncode, result.stderr) == (0, "")


def test_links_and_pipes_are_left_out_and_counted(tree: Path) -> None:
    (tree / "link to a file").symlink_to(tree / "text")
    (tree / "link to a folder").symlink_to(tree / "sub folder")
    (tree / "link to itself").symlink_to(tree / "link to itself")
    os.mkfifo(tree / "pipe")
    result = command_line.run("demo", tree, "--pattern", "needle", cwd=tree)
    assert "left out: 4 links, pipes and other special files" in result.stdout
    assert f"{MATCHES_IN_TREE} matches of 'needle' in 8 of 8 files" in result.stdout
    assert result.returncode == 0


def test_unreadable_files_are_named_and_the_rest_is_searched(tree: Path) -> None:
    # Permissions do not stop root; a line that does not fit in memory stops everybody.
    for number in range(7):
        with (tree / f"endless {number:02}").open("wb") as sparse:
            sparse.truncate(200_000_000)
    result = command_line.run("demo", tree, "--pattern", "needle", cwd=tree)
    assert result.returncode == 0
    assert f"{MATCHES_IN_TREE} matches of 'needle' in 15 of 15 files" in result.stdout
    title, *names, more = result.stderr.splitlines()
    assert title == "could not be read: 7"
    assert len(names) == 5
    assert all(re.fullmatch(rf"{tree}/endless \d\d: Value too large .*", name) for name in names)
    assert more == "…"


def test_a_folder_that_cannot_be_read_is_named(tree: Path) -> None:
    # A path of more than 4096 bytes is one that not even root can open.
    deep, here = "d" * 250, os.open(tree, os.O_RDONLY)
    for _ in range(17):
        os.mkdir(deep, dir_fd=here)
        below = os.open(deep, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    result = command_line.run("demo", tree, "--pattern", "needle", cwd=tree)
    assert result.returncode == 0
    assert f"{MATCHES_IN_TREE} matches of 'needle' in 8 of 8 files" in result.stdout
    title, name = result.stderr.splitlines()
    assert title == "could not be read: 1"
    assert name.endswith(f"{deep}: File name too long")


@pytest.mark.parametrize("kind", ["missing", "a pipe", "unreadable"])
def test_a_path_that_cannot_be_searched_is_one_line_and_status_2(tmp_path: Path, kind: str) -> None:
    # /proc/self/mem is a file whose first byte nobody may read.
    path = {"unreadable": Path("/proc/self/mem")}.get(kind, tmp_path / kind)
    if kind == "a pipe":
        os.mkfifo(path)
    result = command_line.run("demo", path, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"aiobridge demo: cannot read {path}: ")
    assert result.stderr.endswith("; name a file or folder that can be read\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("pattern", ["", "two\nlines"])
def test_a_pattern_that_no_line_can_hold_is_one_line_and_status_2(tmp_path: Path, pattern: str) -> None:
    result = command_line.run("demo", tmp_path, "--pattern", pattern, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    why = "the pattern must be text within one line: not empty, no line break"
    assert result.stderr == f"aiobridge demo: --pattern {pattern!r}: {why}\n"


def test_uvloop_that_is_not_installed_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert __main__.main(["demo", str(tmp_path), "--loop", "uvloop"]) == 2
    expected = "aiobridge demo: --loop uvloop needs the package uvloop: pip install 'aiobridge[demo]'\n"
    assert capsys.readouterr() == ("", expected)


def test_a_match_that_python_does_not_find_fails_the_check(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aiobridge import _demo_cli

    def forgetful(path: str, pattern: bytes) -> list[tuple[str, int, str]]:
        return [("elsewhere", 1, "needle")] if path.endswith("text") else search_in_python(path, pattern)

    search_in_python = _demo_cli.search_in_python
    monkeypatch.setattr(_demo_cli, "search_in_python", forgetful)
    assert __main__.main(["demo", str(tree), "--pattern", "needle", "--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "check failed: 1 matches missing, 1 too many (has a file changed meanwhile?)",
        "- elsewhere:1: needle",
        f"+ {tree}/text:2: the needle",
    ]


@LOOPS
def test_ctrl_c_ends_a_search_with_a_summary_and_status_130(tmp_path: Path, loop: str) -> None:
    root = big_tree(tmp_path)
    arguments = ("demo", root, "--pattern", "needle", "--loop", loop)
    with started(*arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        # The search cannot end before the rest of its output is read.
        assert process.stdout.readline().startswith(f"{root}/")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=command_line.TIMEOUT)
    *_, summary = stdout.splitlines()
    found = re.fullmatch(rf"interrupted: (\S+) matches of 'needle' in \S+ of 200 files, .*, {loop}, .*", summary)
    assert found
    assert 0 < int(found[1].replace(",", "")) < MANY
    assert (process.returncode, stderr) == (130, "")


@LOOPS
def test_a_reader_that_leaves_ends_the_search_quietly(tmp_path: Path, loop: str) -> None:
    arguments = ("demo", big_tree(tmp_path), "--pattern", "needle", "--loop", loop)
    with started(*arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()  # as `| head -n 1` does
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(timeout=command_line.TIMEOUT) == 141


def test_output_that_cannot_be_written_is_one_line_and_status_1(tree: Path) -> None:
    with (
        open("/dev/full", "wb") as full,
        started("demo", tree, "--pattern", "needle", cwd=tree, stdout=full, stderr=subprocess.PIPE) as process,
    ):
        assert process.stderr is not None
        assert process.stderr.read() == "aiobridge: cannot write the output: No space left on device\n"
        assert process.wait(timeout=command_line.TIMEOUT) == 1


def on_a_terminal(*arguments: str | Path, cwd: Path, term: str = "xterm", **more: Any) -> tuple[int, str]:
    """Exit status and all that was written to a terminal of 200 columns."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": term, "COLUMNS": "200", "LINES": "40"}
    with (
        open(master, "rb", buffering=0) as terminal,
        started(*arguments, cwd=cwd, stdin=slave, stdout=slave, stderr=slave, env=env, **more) as process,
    ):
        os.close(slave)
        output = b""
        with suppress(OSError):  # nobody holds the other end any more
            while data := terminal.read(65536):
                output += data
        return process.wait(timeout=command_line.TIMEOUT), output.decode()


def test_a_terminal_shows_progress_and_the_latest_matches(tmp_path: Path) -> None:
    pytest.importorskip("rich")
    root = big_tree(tmp_path)
    status, output = on_a_terminal("demo", root, "--pattern", "needle", cwd=tmp_path)
    assert status == 0
    assert "\x1b[?25l" in output  # the cursor is hidden while the display lives …
    assert output.rindex("\x1b[?25h") > output.rindex("\x1b[?25l")  # … and is back at the end
    *_, last_match, progress, summary = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output).splitlines()
    assert re.match(r"\d+:\d+: needle \d+ in file \d+", last_match)
    assert f"200/200 files, {MANY:,} matches, " in progress
    assert f"{MANY:,} matches of 'needle' in 200 of 200 files, " in summary


def test_a_terminal_gets_plain_lines_where_rich_is_not_installed(tree: Path) -> None:
    code = "import sys; sys.modules['rich.console'] = None; from aiobridge.__main__ import main; main()"
    command = [sys.executable, "-c", code]
    status, output = on_a_terminal("demo", tree / "text", "--pattern", "needle", cwd=tree, command=command)
    assert (status, output.count("\x1b")) == (0, 0)
    assert f"{tree}/text:2: the needle" in output.splitlines()


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(tree: Path) -> None:
    status, output = on_a_terminal("demo", tree / "text", "--pattern", "needle", cwd=tree, term="dumb")
    assert (status, output.count("\x1b")) == (0, 0)
    assert f"{tree}/text:2: the needle" in output.splitlines()
