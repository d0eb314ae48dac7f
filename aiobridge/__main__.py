"""The command line: `aiobridge`, or `python -m aiobridge`."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import sysconfig
from collections.abc import Sequence
from importlib.metadata import version

from aiobridge import _paths

# As a shell reports a process that a signal has ended: 128 + SIGINT, 128 + SIGPIPE.
INTERRUPTED = 130
NOBODY_READS = 141


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options, more = parser.parse_known_args(argv)
    if more and options.command != "bench":
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    try:
        status = _run(options, more, parser)
        sys.stdout.flush()  # here, where its error is caught
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # The interpreter flushes stdout once more at exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # `aiobridge demo | head`
            return NOBODY_READS
        print(f"aiobridge: cannot write the output: {error.strerror}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aiobridge", description="Results and events from native threads, awaited on asyncio and uvloop."
    )
    parser.add_argument("--version", action="version", version=version("aiobridge"))
    parser.add_argument("--includes", action="store_true", help="print -I flags for aiobridge's and Python's headers")
    parser.add_argument("--cmakedir", action="store_true", help="print the folder for CMake's aiobridge_DIR")
    parser.add_argument("--pkgconfigdir", action="store_true", help="print the folder for PKG_CONFIG_PATH")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="search text in files on native threads, and follow the matches as they are found",
        description="Searches all files under PATH for a text, on native threads. asyncio awaits the result "
        "of each file, and meanwhile iterates over the matches of all.",
    )
    stdlib = sysconfig.get_path("stdlib")
    demo.add_argument("path", metavar="PATH", nargs="?", default=stdlib, help="file or folder (%(default)s)")
    demo.add_argument("--pattern", metavar="TEXT", default="async def", help="what to look for (%(default)r)")
    demo.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="(%(default)s)")
    demo.add_argument("--check", action="store_true", help="compare, and measure, with asyncio.to_thread in Python")
    info = commands.add_parser(
        "info",
        help="print versions, settings and folders, and what wakes the loops here",
        description="Prints versions, settings and folders; and runs the loops that are installed, with a native "
        "thread that has a result for each, to see what they are and what wakes them.",
    )
    info.add_argument("--json", action="store_true", help="print JSON")
    # Its options are its own: `aiobridge bench --help`.
    commands.add_parser("bench", help="measure aiobridge, and other bridges, on this machine", add_help=False)
    return parser


def _run(options: argparse.Namespace, more: Sequence[str], parser: argparse.ArgumentParser) -> int:
    if options.command == "demo":
        from aiobridge import _demo_cli  # its imports are nobody else's business

        return _demo_cli.run(options.path, options.pattern, options.loop, options.check)
    try:
        if options.command == "bench":
            from aiobridge import _bench  # as above

            return _bench.run(more)
        if options.command == "info":
            from aiobridge import _info  # as above

            return _info.run(options.json)
        lines = []
        if options.includes:
            lines.append(_includes())
        if options.cmakedir:
            lines.append(_paths.get_cmake_dir())
        if options.pkgconfigdir:
            lines.append(_paths.get_pkgconfig_dir())
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    if lines:
        print(*lines, sep="\n")
    else:
        parser.print_help()
    return 0


def _includes() -> str:
    folders = [_paths.get_include(), sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    return " ".join(f"-I{shlex.quote(folder)}" for folder in dict.fromkeys(folders))


if __name__ == "__main__":
    sys.exit(main())
