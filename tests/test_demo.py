"""aiobridge._demo, the native search, used as an application would use it."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from aiobridge import Stream, _demo

CAPACITY = 4096  # of the stream of matches
LONGEST_LINE = 64 * 1024 * 1024

Found = list[tuple[str, int, str]]


async def find(pattern: str | bytes, *paths: os.PathLike[str] | str | bytes) -> Found:
    search = _demo.Search(pattern)
    found: Found = []

    async def follow() -> None:
        async with search.matches() as matches:
            async for match in matches:
                found.append((match.file, match.line, match.text))

    async with asyncio.TaskGroup() as group:
        group.create_task(follow())
        reports = await asyncio.gather(*(search.file(path) for path in paths))
        search.close()
    assert sum(report.matches for report in reports) == len(found)
    return found


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def many_matches(folder: Path, count: int) -> Path:
    return write(folder / "many", b"".join(b"match %d\n" % number for number in range(1, count + 1)))


async def until_full(matches: Stream[_demo.Match]) -> None:
    async with asyncio.timeout(20):
        while matches.qsize() < CAPACITY:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"\n\n\n", [], id="only line breaks"),
        pytest.param(b"no\nneedle\nno\n", [(2, "needle")], id="one"),
        pytest.param(b"needle", [(1, "needle")], id="no line break at the end"),
        pytest.param(b"\na needle and a needle\n", [(2, "a needle and a needle")], id="twice in a line"),
        pytest.param(b"needle\r\nno\r\nneedle\r\n", [(1, "needle"), (3, "needle")], id="CRLF"),
        pytest.param(b"need\nle needle\n", [(2, "le needle")], id="never across lines"),
        pytest.param(b"\0\1needle\xff\n\0needle", [(1, "\0\1needle\ufffd"), (2, "\0needle")], id="binary"),
        pytest.param("ü needle ß\n".encode(), [(1, "ü needle ß")], id="UTF-8"),
        pytest.param("ü needle\n".encode("latin-1"), [(1, "\ufffd needle")], id="not UTF-8"),
    ],
)
async def test_each_line_that_holds_the_pattern_is_one_match(
    tmp_path: Path, data: bytes, expected: list[tuple[int, str]]
) -> None:
    file = write(tmp_path / "file", data)
    assert await find("needle", file) == [(str(file), line, text) for line, text in expected]


async def test_a_report_counts_bytes_lines_and_matches(tmp_path: Path) -> None:
    data = b"needle\nno\nneedle at the end"
    search = _demo.Search("needle")
    report = await search.file(write(tmp_path / "file", data))
    assert (report.bytes, report.lines, report.matches) == (len(data), 3, 2)


async def test_a_match_is_found_wherever_the_file_is_cut_into_pieces(tmp_path: Path) -> None:
    # The file is read in pieces of 64 KiB, and more while a line does not end.
    lines = [b"x" * length + b"needle" for length in (65_530, 65_533, 65_536, 1, 200_000, 1_000_000, 0)]
    file = write(tmp_path / "file", b"\n".join(lines))
    expected = [(str(file), number, line[: _demo.max_text].decode()) for number, line in enumerate(lines, 1)]
    assert await find("needle", file) == expected


async def test_a_line_too_long_for_memory_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as sparse:
        sparse.truncate(2 * LONGEST_LINE + 1_000_000)
    with pytest.raises(OSError, match="too large") as caught:
        await _demo.Search("needle").file(file)
    assert (caught.value.errno, caught.value.filename) == (errno.EOVERFLOW, str(file))


@pytest.mark.parametrize("pattern", ["ü", "ü".encode(), b"\xfc", b"\0"])
async def test_a_pattern_is_text_in_utf8_or_any_bytes(tmp_path: Path, pattern: str | bytes) -> None:
    data = pattern.encode() if isinstance(pattern, str) else pattern
    file = write(tmp_path / "file", b"no\n" + data)
    assert [line for _, line, _ in await find(pattern, file)] == [2]


@pytest.mark.parametrize("pattern", ["", b"", "two\nlines"])
def test_a_pattern_that_no_line_can_hold_is_refused(pattern: str | bytes) -> None:
    with pytest.raises(ValueError, match="not empty, no line break"):
        _demo.Search(pattern)


async def test_a_file_name_that_is_not_utf8_comes_back_as_it_opens_the_file(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe name"
    write(Path(os.fsdecode(path)), b"needle")
    for given in (path, os.fsdecode(path), Path(os.fsdecode(path))):
        assert await find("needle", given) == [(os.fsdecode(path), 1, "needle")]


async def test_a_file_that_cannot_be_read_raises_oserror_with_its_name(tmp_path: Path) -> None:
    search = _demo.Search("needle")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(FileNotFoundError) as missing:
        await search.file(tmp_path / "missing")
    assert missing.value.filename == str(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        await search.file(tmp_path)
    with pytest.raises(OSError, match="pipe"):  # at once, though nobody writes to it
        await search.file(pipe)


async def test_matches_arrive_before_their_file_has_been_searched(tmp_path: Path) -> None:
    search = _demo.Search("match")
    file = search.file(many_matches(tmp_path, 2 * CAPACITY))
    async with search.matches() as matches:
        first = await anext(matches)
        # The thread cannot be done: half of the matches have no room yet.
        assert (first.text, file.done()) == ("match 1", False)


async def test_a_search_waits_for_a_slow_reader_and_loses_nothing(tmp_path: Path) -> None:
    count = 3 * CAPACITY + 7
    search = _demo.Search("match")
    file = search.file(many_matches(tmp_path, count))
    async with search.matches() as matches:
        await until_full(matches)
        assert not file.done()
        lines = [(await anext(matches)).line for _ in range(count)]
    assert lines == list(range(1, count + 1))
    assert (await file).matches == count


async def test_cancelling_stops_searches_that_wait_for_a_reader(tmp_path: Path) -> None:
    file = many_matches(tmp_path, 2 * CAPACITY)
    search = _demo.Search("match")
    # More than the pool has threads: every thread waits for room, and some calls wait for a thread.
    files = [search.file(file) for _ in range(4 * (os.cpu_count() or 1))]
    matches = search.matches()
    await until_full(matches)
    for future in files:
        future.cancel()
    results = await asyncio.gather(*files, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError}
    # The stream is still full. Were a thread still searching, it would never be free for this one.
    async with asyncio.timeout(20):
        assert (await _demo.Search("none").file(file)).matches == 0
    await matches.aclose()


async def test_closing_the_stream_ends_a_search_that_waits_for_a_reader(tmp_path: Path) -> None:
    search = _demo.Search("match")
    file = search.file(many_matches(tmp_path, 2 * CAPACITY))
    async with search.matches() as matches:
        await until_full(matches)
    async with asyncio.timeout(20):
        assert (await file).matches == CAPACITY


async def test_a_closed_search_ends_the_stream_after_what_it_holds(tmp_path: Path) -> None:
    search = _demo.Search("needle")
    await search.file(write(tmp_path / "file", b"needle\nneedle"))
    search.close()
    async with asyncio.timeout(20):
        assert [match.line async for match in search.matches()] == [1, 2]
