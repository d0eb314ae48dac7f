"""Every code block of the README: it is a file of the example that is built and run here, or it is compiled."""

import asyncio
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import threading
from pathlib import Path

import native
import pybind11
import pytest

import aiobridge

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "quickstart"
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language):
    return [text for name, text in BLOCKS if name == language]


async def run_python_block(number, **names):
    """Run a block of Python in which these names are known."""
    exec("async def main():\n" + textwrap.indent(blocks("python")[number], "    "), names)
    try:
        await names["main"]()
    finally:
        # Without a GIL, Python 3.13 never frees a function that is in no other, nor what it refers to.
        names.clear()


def test_every_block_is_of_a_kind_that_is_tested():
    assert [name for name, _ in BLOCKS] == ["sh", "sh", "cpp", "python", "cpp", *["python"] * 4, "cpp"]


def test_the_commands_are_one_line_each_and_name_what_exists():
    demo, tests = blocks("sh")
    assert demo.count("\n") == tests.count("\n") == 1
    for command in (demo, tests):
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install '.[")
    assert demo.rstrip().endswith(".venv/bin/aiobridge demo")
    assert tests.rstrip().endswith(".venv/bin/pytest")


@pytest.mark.timeout(180)
def test_the_quickstart_is_built_and_run(build_project):
    assert blocks("cpp")[0] == (EXAMPLE / "module.cpp").read_text()
    assert blocks("python")[0] == (EXAMPLE / "main.py").read_text()
    done = subprocess.run(
        [sys.executable, "-P", str(EXAMPLE / "main.py")],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env={"PYTHONPATH": str(build_project(EXAMPLE))},
    )
    assert (done.stdout, done.stderr) == ("3\n0\n1\n2\n3\n4\n", "")


# What the README's third block calls: a resolver with a thread of its own.
SDK = """
#include <aiobridge/pybind11.h>
#include <pybind11/stl.h>
#include <functional>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

struct resolver_sdk {
    using handler = std::function<void(std::error_code, std::vector<std::string>)>;
    int async_resolve(const std::string &host, handler done) {
        if (host == "slow") {
            waiting = done;
            return 7;
        }
        std::thread([host, done] {
            if (host == "nowhere")
                done(std::make_error_code(std::errc::host_unreachable), {});
            else
                done({}, {host + " is 192.0.2.1", host + " is 192.0.2.2"});
        }).detach();
        return 1;
    }
    void abort(int id) {
        aborted = id;
        waiting = nullptr;
    }
    std::atomic<int> aborted = 0;
    handler waiting;
};
resolver_sdk &resolver() {
    static auto *sdk = new resolver_sdk;
    return *sdk;
}
PYBIND11_MODULE(readme, m, pybind11::mod_gil_not_used()) {
    m.def("aborted", [] { return resolver().aborted.load(); });
"""


@pytest.fixture(scope="module")
def readme(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    source, module = folder / "readme.cpp", folder / f"readme{sysconfig.get_config_var('EXT_SUFFIX')}"
    source.write_text(SDK + blocks("cpp")[1] + "}\n")
    includes = [aiobridge.get_include(), pybind11.get_include(), sysconfig.get_path("include")]
    command = [
        shutil.which("c++") or "g++",
        "-std=c++20",
        "-fvisibility=hidden",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
    ]
    done = subprocess.run(
        [*command, *(f"-I{folder}" for folder in includes), str(source), "-o", str(module)],
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    sys.path.insert(0, str(folder))
    yield __import__("readme")
    sys.path.remove(str(folder))


async def test_the_callback_api_of_the_readme(readme):
    assert await readme.resolve("example.org") == ["example.org is 192.0.2.1", "example.org is 192.0.2.2"]
    with pytest.raises(RuntimeError, match="No route to host"):
        await readme.resolve("nowhere")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(readme.resolve("slow"), 0.01)
    async with asyncio.timeout(20):
        while readme.aborted() != 7:
            await asyncio.sleep(0)


async def test_callback_apis_without_any_cpp(capsys):
    vendor, unsubscribed = native.Vendor(), []

    class sdk:
        @staticmethod
        def read_async(number, size, *, on_done, on_error):
            if number:
                vendor.compute(number + size, on_done)
                return 0
            return vendor.wait(on_done)

        @staticmethod
        def on_message(topic, listener):
            for number in range(3):
                listener(f"{topic} {number}")
            return topic

        abort = vendor.abort
        off_message = unsubscribed.append

    await run_python_block(1, aiobridge=aiobridge, sdk=sdk, fd=1)
    assert capsys.readouterr().out.splitlines() == ["4098", "topic 0", "topic 1", "topic 2"]
    assert unsubscribed == ["topic"]
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run_python_block(1, aiobridge=aiobridge, sdk=sdk, fd=0), 0.01)


async def test_a_promise_by_hand(capsys):
    class sdk:
        @staticmethod
        def start(on_result, on_error):
            threading.Thread(target=on_result, args=("done",)).start()

    await run_python_block(2, aiobridge=aiobridge, sdk=sdk)
    assert capsys.readouterr().out == "done\n"


async def test_nothing_outlives_its_block(capsys):
    recorder, watched = native.Recorder(), []

    async def watch(feed):
        watched.extend([event async for event in feed])

    async def resolve(host):
        stream = native.joining_sdk(recorder)
        watching.append(asyncio.create_task(watch(stream)))
        while not stream.stats().delivered:
            await asyncio.sleep(0)
        return host

    watching = []
    _writer, feed = aiobridge.make_stream()
    await run_python_block(3, aiobridge=aiobridge, asyncio=asyncio, watch=watch, feed=feed, resolve=resolve)
    assert capsys.readouterr().out == "example.org\n"
    assert recorder.records[-1] == "scope_exit on aiobridge-hooks"
    await asyncio.gather(*watching)
    assert watched
    await feed.aclose()


async def test_the_ways_to_take_events(capsys):
    writer, stream = native.make_stream()
    for number in range(6):
        writer.push(number)
    writer.close()
    await run_python_block(4, ticks=stream)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["[1, 2]", "12"]
    assert lines[2].startswith("StreamStats(accepted=6, delivered=6,")


def test_call_later_is_the_examples():
    source = (ROOT / "examples" / "from_native_threads" / "call_later.cpp").read_text()
    assert textwrap.indent(blocks("cpp")[2], "    ") in source
