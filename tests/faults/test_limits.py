"""No thread, descriptor or memory: an error where something is created, a typed answer from a post, never an abort."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import sizes

SUPPORT = Path(__file__).parent.parent / "support"
pytestmark = [
    pytest.mark.timeout(sizes.PATIENCE),
    pytest.mark.skipif(
        "AIOBRIDGE_TEST_SANITIZE" in os.environ, reason="sanitizers need descriptors and memory themselves"
    ),
]

# A thread needs 8 MiB of address space for its stack.
LIMITS = """
import asyncio, contextlib, gc, os, resource, threading, time, aiobridge, native
@contextlib.contextmanager
def limited(what, number):
    soft, hard = resource.getrlimit(what)
    resource.setrlimit(what, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(what, (soft, hard))
def no_threads():
    pages = int(open("/proc/self/statm").read().split()[0])
    return limited(resource.RLIMIT_AS, pages * resource.getpagesize() + (4 << 20))
def no_descriptors():
    highest = os.dup(0)
    os.close(highest)
    return limited(resource.RLIMIT_NOFILE, highest)
def fails(function, *args):
    try:
        function(*args)
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"
def objects():
    gc.collect()
    stats = aiobridge.stats()
    return stats.loops, stats.operations, stats.streams, stats.callbacks, stats.hooks
async def nothing_left(expected):
    async with asyncio.timeout(20):
        while objects() != expected:
            await asyncio.sleep(0)
Loop = {Loop}
async def main():
{main}
with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main())
"""


@pytest.fixture
def run_limited(loop_class, run_python):
    """Run the body of a coroutine that sets limits on its process; returns the lines that it prints."""

    def run(main, **arguments):
        indented = "".join(f"    {line}\n" for line in main.strip().splitlines())
        done = run_python(LIMITS.format(Loop=loop_class, main=indented), **arguments)
        assert (done.stderr, done.returncode) == ("", 0)
        return done.stdout.splitlines()

    return run


def test_53_the_notifier_cannot_be_started_the_first_use_of_the_loop_says_so_and_the_next_tries_again(run_limited):
    failed, *rest = run_limited(
        """
with no_threads():
    print(fails(native.make_Promise))
    print(fails(aiobridge.make_stream))
    print(objects())
print(await native.add(1), objects()[0])
""",
        wakeup="call_soon",
    )
    assert failed.startswith("RuntimeError: aiobridge cannot serve <")
    assert "its notifier thread cannot be started (Resource temporarily unavailable)" in failed
    assert failed.endswith("aiobridge.configure(wakeup='fd') needs no thread")
    assert rest[0].startswith("RuntimeError: aiobridge cannot serve <")
    assert rest[1:] == ["(0, 0, 0, 0, 0)", "2 1"]


def test_53_the_pool_cannot_be_started_the_call_says_so_and_the_next_tries_again(run_limited):
    failed, *rest = run_limited(
        """
await native.make_even_stream()[1].aclose()
before = objects()
with no_threads():
    print(fails(native.add, 1))
    print(objects() == before)
print(await native.add(1))
""",
        wakeup="fd",
    )
    assert failed.startswith(
        "RuntimeError: aiobridge::async: the call was not started, because no pool thread could be"
    )
    assert rest == ["True", "2"]


def test_53_the_hook_thread_cannot_be_started_installing_a_hook_says_so_and_the_operation_goes_on(run_limited):
    lines = run_limited(
        """
promise, future = native.make_Promise()
own_promise, own_future = aiobridge.make_promise()
own_writer, own_stream = aiobridge.make_stream()
with no_threads():
    print(fails(promise.on_cancel, native.Recorder()))
    print(fails(own_promise.on_cancel, print))
    print(fails(own_stream.on_close, print))
    own_writer.push(1)
    await own_stream.aclose()
promise.set(1)
own_promise.set_result(2)
print(await future, await own_future)
recorder = native.Recorder()
promise, future = native.make_Promise()
promise.on_cancel(recorder)
future.cancel()
print(await asyncio.to_thread(recorder.wait, 1), recorder.records[0])
del promise, future, own_promise, own_future, own_writer, own_stream
await nothing_left((1, 0, 0, 0, 0))
""",
        wakeup="fd",
    )
    for line in lines[:3]:
        assert "hook thread could not be started" in line
    assert lines[3:] == ["1 2", "True cancelled on aiobridge-hooks"]


@pytest.mark.parametrize("first_use", ["native.make_Promise", "aiobridge.make_stream", "native.make_stream"])
def test_no_descriptor_can_be_had_the_first_use_of_the_loop_says_so_and_the_next_tries_again(
    run_limited, wakeup, first_use
):
    failed, *rest = run_limited(
        f"""
with no_descriptors():
    print(fails({first_use}))
    print(fails(native.add, 1))
    await nothing_left((0, 0, 0, 0, 0))  # the call itself may have been on its way already
print(await native.add(1), objects()[0])
""",
        wakeup=wakeup,
    )
    for line in (failed, rest[0]):
        assert line.startswith("OSError: aiobridge cannot serve <")
        assert "aiobridge: no descriptor for waking the loop: Too many open files" in line
    assert rest[1:] == ["2 1"]


@pytest.fixture(scope="session")
def failing_malloc(tmp_path_factory):
    """A library to start a process with, in which chosen allocations of one thread fail."""
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    library = tmp_path_factory.mktemp("failing_malloc") / "failing_malloc.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SUPPORT / "failing_malloc.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


# What a native call may answer if one of its allocations, or from one on each of them, fails.
ANSWERS = {
    "make_promise": {"bad_alloc"},
    "make_stream": {"bad_alloc"},
    "set_value": set(),  # allocates nothing
    "set_value twice": {
        "already_set",
        "bad_alloc",
    },  # bad_alloc: of the copy that the caller makes; the report is not made
    "set_exception": {"accepted"},  # C++ has memory in reserve for exceptions
    "on_cancel": {"bad_alloc", "system_error"},
    "cancel": set(),
    "push": {"no_memory"},
    "close": set(),
    "fail": {"accepted"},
    "abort": {"accepted"},
    "on_close": {"bad_alloc", "system_error"},
    "on_ready": {"bad_alloc", "system_error"},
    "on_undelivered": {"bad_alloc", "system_error"},
    "callback": {"no_memory"},
    "callback.call": {"bad_alloc", "accepted"},  # accepted: the std::future has the refusal
    "callback.call, evicting": {"bad_alloc", "accepted"},
}


# Fails if a function that is noexcept allocates and does not catch; or counts what it has not made
@pytest.mark.parametrize("call", ANSWERS)
def test_whichever_allocation_of_a_native_call_fails_the_answer_is_typed(run_python, wakeup, failing_malloc, call):
    script = f"""
import asyncio, gc, logging, aiobridge, native
logging.disable()  # of promises fulfilled twice
async def main(answers):
    def function(number):
        return number
    for all_fail in (False, True):
        for n in range(1, 1000):
            answer = native.call_without_memory({call!r}, n, all_fail, function)
            if not answer:
                break
            answers.append(answer)
            await native.nothing()
    del function
    async with asyncio.timeout(20):
        while native.Tracked.live or aiobridge.stats().hooks or aiobridge.stats().callbacks:
            gc.collect()
            await asyncio.sleep(0)
    return n
answers = []
print(asyncio.run(main(answers)) < 999, *sorted(set(answers)))
"""
    done = run_python(script, wakeup=wakeup, preload=failing_malloc)
    assert (done.stderr, done.returncode) == ("", 0)
    walked, *answers = done.stdout.split()
    assert walked == "True"
    assert set(answers) <= ANSWERS[call]
    assert bool(answers) == bool(ANSWERS[call])


# The n-th allocation fails, of Python's objects or of C++.
FAIL = {
    "Python": """
import _testcapi
def begin(n):
    _testcapi.set_nomemory(n - 1, n)
end = _testcapi.remove_mem_hooks
""",
    "C++": """
import ctypes
library = ctypes.CDLL(None)
def begin(n):
    library.fail_allocation(n, 0)
end = library.stop_failing
""",
}
CREATED = ("aiobridge.make_promise()", "aiobridge.make_stream()", "native.resolved(1)")


# Fails if a bridge that could not be made whole is left behind
@pytest.mark.parametrize("allocations", FAIL)
@pytest.mark.parametrize("create", CREATED)
def test_whichever_allocation_of_a_loops_first_use_fails_it_raises_memory_error_and_leaves_nothing(
    run_python, wakeup, failing_malloc, create, allocations
):
    if allocations == "Python":
        pytest.importorskip("_testcapi")
    script = f"""
import asyncio, gc, aiobridge, native
{FAIL[allocations]}
async def main(n):
    begin(n)
    try:
        made = {create}
    except MemoryError:
        return "MemoryError"
    finally:
        end()
    del made
    return "made"
asyncio.run(main(100_000))
answers = [asyncio.run(main(n)) for n in range(1, 150)]
gc.collect()
print(set(answers) == {{"MemoryError", "made"}}, set(answers[-50:]) == {{"made"}})
for _ in range(10_000):
    stats = aiobridge.stats()
    left = stats.loops, stats.operations, stats.streams, stats.hooks
    if left == (0, 0, 0, 0):
        break
print(*left)
"""
    done = run_python(script, wakeup=wakeup, preload=failing_malloc)
    assert done.returncode == 0, done.stderr
    answers, left = done.stdout.splitlines()
    assert answers == "True True"
    loops, *others = left.split()
    assert others == ["0", "0", "0"]
    # A loop whose add_reader failed for another reason, because asyncio had no memory, is one without readers: that it
    # was closed is found out by its next post.
    if allocations == "C++":
        assert (loops, done.stderr) == ("0", "")
