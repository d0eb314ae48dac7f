"""The command `aiobridge demo`: a search of text in files, on native threads, followed live from asyncio."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import stat
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiobridge
from aiobridge import _demo

IN_FLIGHT = 64  # files that are awaited at once
MAX_TEXT = 200  # characters of a line that are shown
MAX_UNREADABLE = 5  # unreadable files that are named

Show: TypeAlias = Callable[[_demo.Match], object]
Found: TypeAlias = tuple[str, int, str]  # file, line, text
NewLoop: TypeAlias = Callable[[], asyncio.AbstractEventLoop]


@dataclass
class Tally:
    """What has been searched and found so far."""

    path: str
    pattern: str
    files: list[str] = field(default_factory=list)
    left_out: int = 0
    unreadable: list[str] = field(default_factory=list)
    searched: int = 0
    bytes: int = 0
    matches: int = 0
    started: float = field(default_factory=time.perf_counter)
    ended: float | None = None

    def seconds(self) -> float:
        return (self.ended or time.perf_counter()) - self.started

    def rate(self) -> str:
        megabytes = self.bytes / 1e6
        return f"{megabytes:,.1f} MB in {self.seconds():.2f} s, {megabytes / self.seconds():,.0f} MB/s"


# The search: what an application would write.


async def search_natively(tally: Tally, show: Show) -> None:
    """Awaits the search of every file, and meanwhile reads the stream that the matches of all arrive in."""
    search = _demo.Search(os.fsencode(tally.pattern))

    async def follow_matches() -> None:
        async with search.matches() as matches:
            async for match in matches:
                tally.matches += 1
                show(match)

    async def search_file(path: str) -> None:
        try:
            report = await search.file(path)
        except OSError as error:
            tally.unreadable.append(reason(error))
        else:
            tally.bytes += report.bytes
        tally.searched += 1

    tally.started = time.perf_counter()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(follow_matches())
            await for_each(tally.files, search_file)
            search.close()  # the stream ends when what it holds has been read
    finally:
        tally.ended = time.perf_counter()


async def for_each(paths: list[str], work: Callable[[str], Awaitable[None]]) -> None:
    queue = iter(paths)

    async def worker() -> None:
        for path in queue:
            await work(path)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(worker())


# Which files.


def look_at(path: str) -> None:
    """Raises OSError if there is nothing to search at all."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        os.scandir(path).close()
    elif stat.S_ISREG(mode):
        with open(path, "rb") as file:
            file.read(1)
    else:  # opening a pipe would wait until somebody writes to it
        raise OSError("neither a file nor a folder")


def collect_files(tally: Tally) -> None:
    """Finds the regular files. Links below PATH are not followed, or files would be searched twice."""

    def cannot_read(error: OSError) -> None:
        tally.unreadable.append(reason(error))

    if not os.path.isdir(tally.path):
        tally.files.append(tally.path)
        return
    for folder, subfolders, names in os.walk(tally.path, onerror=cannot_read):
        subfolders.sort()
        tally.left_out += sum(os.path.islink(os.path.join(folder, name)) for name in subfolders)
        for file in sorted(os.path.join(folder, name) for name in names):
            try:
                if stat.S_ISREG(os.lstat(file).st_mode):
                    tally.files.append(file)
                else:
                    tally.left_out += 1
            except OSError as error:
                cannot_read(error)


# What the user sees.


def printable(text: str) -> str:
    """One line that cannot move the cursor, change colours or reverse the text around it."""
    text = text.expandtabs(4)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def excerpt(text: str) -> str:
    return printable(text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…")


def reason(error: OSError) -> str:
    return f"{printable(os.fsdecode(error.filename))}: {error.strerror}"


@contextmanager
def plain_lines() -> Iterator[Show]:
    yield lambda match: print(f"{printable(match.file)}:{match.line}: {excerpt(match.text)}")


@contextmanager
def live_display(tally: Tally) -> Iterator[Show]:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.text import Text

    state = TextColumn("files, {task.fields[matches]:,} matches, {task.fields[rate]}")
    progress = Progress(BarColumn(), MofNCompleteColumn(), state)
    task = progress.add_task("", total=len(tally.files), matches=0, rate="")
    recent: deque[_demo.Match] = deque(maxlen=10)

    def line(match: _demo.Match) -> Text:
        place = match.file.removeprefix(os.path.join(tally.path, ""))
        text = Text(excerpt(match.text.strip()))
        text.highlight_words([tally.pattern], "bold yellow")
        return Text.assemble((printable(place), "cyan"), f":{match.line}: ", text, no_wrap=True, overflow="ellipsis")

    def render() -> Group:  # on rich's own thread
        progress.update(task, completed=tally.searched, matches=tally.matches, rate=tally.rate())
        return Group(*map(line, recent.copy()), progress)

    with Live(get_renderable=render, refresh_per_second=10):
        yield recent.append


def has_live_display() -> bool:
    try:
        from rich.console import Console
    except ImportError:
        return False
    return sys.stdout.isatty() and not Console().is_dumb_terminal


def report(tally: Tally, loop: str, state: str = "") -> None:
    matches = f"{tally.matches:,} match{'' if tally.matches == 1 else 'es'} of {tally.pattern!r}"
    files = f"{tally.searched:,} of {len(tally.files):,} files"
    pool = f"pool of {aiobridge.stats().pool_threads}"
    print(f"{state}{matches} in {files}, {tally.rate()}, {loop}, {pool}")
    if tally.left_out:
        print(f"left out: {tally.left_out:,} links, pipes and other special files")
    if tally.unreadable:
        print(f"could not be read: {len(tally.unreadable):,}", file=sys.stderr)
        shown = tally.unreadable[:MAX_UNREADABLE]
        more = ["…"] if len(tally.unreadable) > len(shown) else []
        print(*shown, *more, sep="\n", file=sys.stderr)


# Is it right, and what is it worth?


def as_found(match: _demo.Match) -> Found:
    return match.file, match.line, match.text


def search_in_python(path: str, pattern: bytes) -> list[Found]:
    with open(path, "rb") as file:
        data = file.read()
    if pattern not in data:  # most files, and the loop below is slow
        return []
    return [
        (path, number, line.removesuffix(b"\r")[: _demo.max_text].decode(errors="replace"))
        for number, line in enumerate(data.split(b"\n"), 1)
        if pattern in line
    ]


async def search_in_threads(tally: Tally, found: list[Found]) -> None:
    """The same job without aiobridge."""

    async def search_file(path: str) -> None:
        with suppress(OSError):  # those have been named
            found.extend(await asyncio.to_thread(search_in_python, path, os.fsencode(tally.pattern)))

    await for_each(tally.files, search_file)


def check(tally: Tally, shown: list[Found], new_loop: NewLoop) -> int:
    """Compares with a search in Python, and measures both while nothing is shown."""
    again, native, python = Tally(tally.path, tally.pattern, tally.files), list[Found](), list[Found]()
    run_on(new_loop, search_natively(again, lambda match: native.append(as_found(match))))
    started = time.perf_counter()
    run_on(new_loop, search_in_threads(tally, python))
    seconds = time.perf_counter() - started
    for found in shown, native:
        if Counter(found) != Counter(python):
            print(f"check failed: {difference(Counter(found), Counter(python))}", file=sys.stderr)
            return 1
    print(f"check: Python's own search finds the same {len(python):,} matches")
    ratio = f"{seconds / again.seconds():.1f} times as long"
    print(f"showing nothing: {again.seconds():.2f} s; in Python on asyncio.to_thread: {seconds:.2f} s, {ratio}")
    return 0


def difference(found: Counter[Found], expected: Counter[Found]) -> str:
    missing, extra = expected - found, found - expected
    text = f"{missing.total():,} matches missing, {extra.total():,} too many (has a file changed meanwhile?)"
    for sign, matches in ("-", missing), ("+", extra):
        for file, line, content in list(matches)[:5]:
            text += f"\n{sign} {printable(file)}:{line}: {excerpt(content)}"
    return text


# The command.


def run(path: str, pattern: str, loop: str, with_check: bool) -> int:
    try:
        new_loop: NewLoop = asyncio.new_event_loop
        if loop == "uvloop":
            import uvloop

            new_loop = uvloop.new_event_loop
        look_at(path)
        _demo.Search(os.fsencode(pattern))
    except ImportError:
        return refuse("--loop uvloop needs the package uvloop: pip install 'aiobridge[demo]'")
    except OSError as error:
        why = error.strerror or error
        return refuse(f"cannot read {printable(path)}: {why}; name a file or folder that can be read")
    except ValueError as error:
        return refuse(f"--pattern {pattern!r}: {error}")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Each line is seen when it is found, whatever characters it holds.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    tally = Tally(path, pattern)
    try:
        return search_and_report(tally, loop, new_loop, with_check)
    except KeyboardInterrupt:
        # From here on Ctrl-C ends the process at once: there is nothing left to tidy up.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        report(tally, loop, "interrupted: ")
        return 130


def search_and_report(tally: Tally, loop: str, new_loop: NewLoop, with_check: bool) -> int:
    collect_files(tally)
    found: list[Found] = []
    with live_display(tally) if has_live_display() else plain_lines() as show:

        def show_and_keep(match: _demo.Match) -> None:
            show(match)
            found.append(as_found(match))

        run_on(new_loop, search_natively(tally, show_and_keep if with_check else show))
    report(tally, loop)
    return check(tally, found, new_loop) if with_check else 0


def run_on(new_loop: NewLoop, main: Coroutine[Any, Any, None]) -> None:
    """Runs `main`. Ctrl-C cancels it, and that stops the native threads."""
    failed: list[BaseException] = []
    with asyncio.Runner(loop_factory=new_loop) as runner:
        try:
            runner.run(main)
        except* OSError as errors:  # of stdout, since those of files are counted
            failed = list(errors.exceptions)
    if failed:
        raise failed[0]


def refuse(message: str) -> int:
    print(f"aiobridge demo: {message}", file=sys.stderr)
    return 2
