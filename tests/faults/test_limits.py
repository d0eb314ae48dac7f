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


# What a native call answers, what whoever waits for its future then has, and what has come through its stream or its
# callback: with memory, and if one of its allocations, or from one on each of them, fails.
NOTHING = "pending []"
ANSWERS = {
    "make_promise": (f"accepted {NOTHING}", {f"bad_alloc {NOTHING}"}),
    "make_stream": (f"accepted {NOTHING}", {f"bad_alloc {NOTHING}"}),
    "set_value": ("accepted 1 []", set()),  # allocates nothing
    # bad_alloc: of the copy that the caller makes; the report is not made
    "set_value twice": ("already_set 1 []", {"already_set 1 []", f"bad_alloc {NOTHING}"}),
    # C++ has memory in reserve for exceptions
    "set_exception": ("accepted an error []", {"accepted an error []"}),
    "on_cancel": (f"accepted {NOTHING}", {f"bad_alloc {NOTHING}", f"system_error {NOTHING}"}),
    "cancel": ("accepted cancelled []", set()),
    "push": ("accepted pending [1, 2]", {"no_memory pending [1]"}),
    "close": ("accepted pending ['end']", set()),
    "fail": ("accepted pending ['an error']", {"accepted pending ['an error']"}),
    "abort": ("accepted pending ['an error']", {"accepted pending ['an error']"}),
    "on_close": (f"accepted {NOTHING}", {f"bad_alloc {NOTHING}", f"system_error {NOTHING}"}),
    "on_ready": (f"accepted {NOTHING}", {f"bad_alloc {NOTHING}", f"system_error {NOTHING}"}),
    "on_undelivered": (f"accepted {NOTHING}", {f"bad_alloc {NOTHING}", f"system_error {NOTHING}"}),
    "callback": ("accepted pending [1]", {f"no_memory {NOTHING}"}),
    # accepted: the std::future has the refusal
    "callback.call": ("accepted pending [1]", {f"bad_alloc {NOTHING}", f"accepted {NOTHING}"}),
    "callback.call, evicting": (
        "accepted pending [2]",
        {f"bad_alloc {NOTHING}", "bad_alloc pending [1]", "accepted pending [1]", "accepted pending [2]"},
    ),
}


# Fails if a function that is noexcept allocates and does not catch; if the way to the loop needs memory, and what was
# accepted never comes; or if something counts what it has not made
@pytest.mark.parametrize("call", ANSWERS)
def test_whichever_allocation_of_a_native_call_fails_what_is_accepted_comes_and_the_answer_is_typed(
    run_python, wakeup, loop_class, failing_malloc, call
):
    script = f"""
import asyncio, gc, itertools, logging, aiobridge, native
logging.disable()  # of promises fulfilled twice
Loop = {loop_class}
woken = 0
async def result(future):
    try:
        return (await future).number
    except OverflowError as error:
        return error
    except asyncio.CancelledError:
        return "cancelled"
async def take(stream, came):
    try:
        async for event in stream:
            came.append(event.number)
        came.append("end")
    except OverflowError as error:
        came.append(str(error))
async def all_posts():
    promise, last = native.make_Promise()
    promise.set(0)
    await last
async def attempt(n, all_fail):
    global woken
    came = []
    def function(number):
        came.append(number)
        return number
    made = native.WithoutMemory(function)
    future = asyncio.ensure_future(result(made.future()))
    consumer = asyncio.ensure_future(take(made.stream(), came))
    await all_posts()
    await asyncio.sleep(0)  # a drain that was left over has run, both tasks wait, and nothing else will wake the loop
    wakes = aiobridge.stats().wakes
    answer, failed = made.call({call!r}, n, all_fail)
    woken += aiobridge.stats().wakes - wakes
    await all_posts()
    outcome = answer, future.result() if future.done() else "pending", came.copy()
    del made, function
    future.cancel()
    consumer.cancel()
    await asyncio.wait([future, consumer])
    return failed, outcome
async def main():
    lines = set()
    for all_fail in (False, True):
        for n in itertools.count(1):
            failed, outcome = await attempt(n, all_fail)
            lines.add(" ".join(["without:" if failed else "with:", *map(str, outcome)]))
            if not failed:
                break
    print(*sorted(lines), "woken" if woken else "asleep", sep="\\n")
    while native.Tracked.live or aiobridge.stats().hooks or aiobridge.stats().callbacks:
        gc.collect()
        await asyncio.sleep(0)
with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(asyncio.wait_for(main(), 20))
"""
    done = run_python(script, wakeup=wakeup, preload=failing_malloc, timeout=sizes.PATIENCE)
    assert (done.stderr, done.returncode) == ("", 0)
    *lines, woken = done.stdout.splitlines()
    with_memory, without_memory = ANSWERS[call]
    assert [line for line in lines if line.startswith("with: ")] == [f"with: {with_memory}"]
    found = {line.removeprefix("without: ") for line in lines if line.startswith("without: ")}
    assert found <= without_memory
    assert bool(found) == bool(without_memory)
    # What the call gives goes through the waker; else this test tests less than it says.
    assert woken == ("asleep" if NOTHING in with_memory else "woken")


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
    run_python, wakeup, loop_class, failing_malloc, create, allocations
):
    if allocations == "Python":
        pytest.importorskip("_testcapi")
    script = f"""
import asyncio, gc, sys, aiobridge, native
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
def run(n):
    with asyncio.Runner(loop_factory={loop_class}) as runner:
        return runner.run(main(n))
run(100_000)
answers = [run(n) for n in range(1, 400 if sys.flags.dev_mode else 150)]  # asyncio's debug mode allocates more
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
