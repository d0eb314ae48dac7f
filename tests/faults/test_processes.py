"""Forks while native threads post, and what multiprocessing does with the library."""

import sys
from pathlib import Path

import pytest
import sizes
from forking import needs_fork_with_threads

SUPPORT = str(Path(__file__).parent.parent / "support")
pytestmark = [pytest.mark.timeout(sizes.PATIENCE), needs_fork_with_threads]

# For scripts: waits until a child process is gone, which takes each less than a second, and leaves it to be reaped. The
# time in which it waited for a core does not count, where the system tells it: of the few dozen milliseconds that a
# child needs, the parent's four threads and whatever else the machine does make half a second and more.
WAIT_UNTIL_GONE = """
def wait_until_gone(child):
    begun = time.monotonic()
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    seconds = time.monotonic() - begun
    if sys.platform == "linux":
        with open("/proc/%d/schedstat" % child) as file:
            seconds -= int(file.read().split()[1]) / 1e9
    assert seconds < 1, seconds
"""

# `child` runs in the forked process, in the middle of the parent's loop, and leaves it. A child that hangs is ended by
# its alarm clock.
FORK = """
import asyncio, atexit, gc, os, signal, sys, time, warnings, weakref, native, aiobridge
warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12 and later, about threads
Loop = {loop_class}
async def use():
    return await native.add(1), [number async for number in native.numbers(100)] == list(range(100))
{wait_until_gone}
async def main():
    flood = native.flood(4)
    writer, stream = native.make_stream(recorder=native.Recorder())
    promise, future = native.make_Promise()
    await native.nothing()
    for _ in range({forks}):
        await anext(flood)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            asyncio.events._set_running_loop(None)
            asyncio.set_event_loop(None)
            ok = (writer.push(1), writer.reason, promise.set(1), promise.reason) == ("closed", "forked") * 2
            try:
                future.result(timeout=1)
            except aiobridge.ClosedError as error:
                ok = ok and "forked" in str(error)
            else:
                ok = False
            ok = ok and flood.aclose().done()  # whose lock a thread of the parent may have held
            {child}
        wait_until_gone(child)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert writer.push(5) == "accepted"
    assert await anext(stream) == 5
    promise.set(6)
    assert await future == 6
    await flood.aclose()
    stats = flood.stats()
    assert stats.accepted == stats.delivered + stats.evicted + stats.merged + stats.undelivered + stats.pending
    assert stats.delivered == {forks}
    print("parent", await native.add(1))
with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main())
"""

# SystemExit must not go through the parent's loop, which is on the child's stack: so what Python does at its exit.
CHILDREN = {
    "exits normally": "atexit._run_exitfuncs(); os._exit(0 if ok else 1)",
    "runs a new loop": "os._exit(0 if ok and asyncio.Runner(loop_factory=Loop).run(use()) == (2, True) else 1)",
    "runs a new loop and exits normally": (
        "ok = ok and asyncio.Runner(loop_factory=Loop).run(use()) == (2, True);"
        " atexit._run_exitfuncs(); os._exit(0 if ok else 1)"
    ),
    "drops what it inherited": (
        "dropped = [weakref.ref(each) for each in (flood, writer, stream, promise, future)];"
        " del flood, writer, stream, promise, future; gc.collect();"
        " os._exit(0 if ok and not any(each() for each in dropped) else 1)"
    ),
}


@pytest.mark.parametrize("child", CHILDREN)
def test_43_a_process_forked_while_four_threads_push_starts_anew_and_the_parent_loses_nothing(
    run_python, wakeup, loop_class, child
):
    script = FORK.format(
        loop_class=loop_class, child=CHILDREN[child], forks=sizes.FORKS, wait_until_gone=WAIT_UNTIL_GONE
    )
    done = run_python(script, wakeup=wakeup, timeout=sizes.PATIENCE)
    assert (done.stdout, done.stderr, done.returncode) == ("parent 2\n", "", 0)


# `child` runs in a process that is forked between two runs of the loop, and is the rest of it.
FORK_BETWEEN_RUNS = """
import asyncio, ctypes, os, signal, sys, time, warnings, native, aiobridge
warnings.simplefilter("ignore", DeprecationWarning)
Loop = {loop_class}
{wait_until_gone}
async def use():
    return await native.add(1)
async def start():
    handles = native.make_Promise(), native.make_stream(), native.flood(4), native.Caller(print)
    await native.nothing()
    return handles
loop = Loop()
handles = loop.run_until_complete(start())
for _ in range({forks}):
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        # Its finalizer would close the descriptors of the parent's loop, with whom it shares the epoll.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(loop))
        {child}
        sys.exit(3)
    wait_until_gone(child)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert loop.run_until_complete(use()) == 2
(promise, future), _, flood, _ = handles
promise.set(1)
assert loop.run_until_complete(future) == 1
async def close():
    await flood.aclose()
loop.run_until_complete(close())
loop.close()
print("parent")
"""


@pytest.mark.parametrize(
    "child",
    ["pass", "assert asyncio.Runner(loop_factory=Loop).run(use()) == 2", "del handles"],
    ids=["at once", "after a loop of its own", "after it has dropped what it inherited"],
)
def test_43_a_process_forked_while_four_threads_push_goes_through_the_interpreters_whole_exit(
    run_python, wakeup, loop_class, child
):
    script = FORK_BETWEEN_RUNS.format(
        loop_class=loop_class, child=child, forks=sizes.FORKS, wait_until_gone=WAIT_UNTIL_GONE
    )
    done = run_python(script, wakeup=wakeup, timeout=sizes.PATIENCE)
    assert (done.stdout, done.stderr, done.returncode) == ("parent\n", "", 0)


# Fails if a child process keeps the parent's descriptors, or if a handle of the parent's writes to them there
@pytest.mark.skipif(sys.platform != "linux", reason="looks for eventfds in /proc")
def test_43_nothing_that_a_child_process_does_wakes_the_parents_loop(run_python, wakeup, loop_class):
    done = run_python(
        f"""
import asyncio, os, select, sys, warnings, native, aiobridge
sys.path.insert(0, {SUPPORT!r})
from descriptors import eventfds
warnings.simplefilter("ignore", DeprecationWarning)
Loop = {loop_class}
async def use():
    return [await native.add(number) for number in range(100)]
async def main():
    writer, stream = native.make_stream()
    waiting = asyncio.ensure_future(anext(stream))
    promises, futures = zip(*[native.make_Promise() for _ in range(100)])
    await native.nothing()
    for _ in range(10):
        await asyncio.sleep(0)
    before = aiobridge.stats()
    child = os.fork()
    if child == 0:
        asyncio.events._set_running_loop(None)
        asyncio.set_event_loop(None)
        for promise in promises:
            promise.set(1)
        writer.push(1)
        writer.drop()
        asyncio.Runner(loop_factory=Loop).run(use())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    descriptors = eventfds() | {{getattr(asyncio.get_running_loop(), "_ssock", None)}} - {{None}}
    assert descriptors and select.select(descriptors, [], [], 0)[0] == []
    for _ in range(10):
        await asyncio.sleep(0.001)  # the loop looks at its descriptors
    after = aiobridge.stats()
    assert (after.wakes, after.drains, after.deliveries) == (before.wakes, before.drains, before.deliveries)
    assert not waiting.done() and not any(future.done() for future in futures)
    writer.push(2)
    print(await waiting, aiobridge.stats().wakes - after.wakes)
with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main())
""",
        wakeup=wakeup,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("2 1\n", "", 0)


def test_44_every_handle_used_in_a_child_process_answers_that_it_was_forked(run_python, wakeup, loop_class):
    done = run_python(
        f"""
import asyncio, os, warnings, native, aiobridge
warnings.simplefilter("ignore", DeprecationWarning)
Loop = {loop_class}
async def main():
    promise, future = native.make_Promise()
    writer, stream = native.make_stream()
    caller = native.Caller(print)
    own_promise, own_future = aiobridge.make_promise()
    own_writer, own_stream = aiobridge.make_stream()
    await native.nothing()
    child = os.fork()
    if child == 0:
        print(promise.set(1), promise.reason)
        print(writer.push(1), writer.reason, writer.close())
        print(caller.fire(1), caller.reason)
        print(own_promise.set_result(1), own_promise.close_reason())
        print(own_writer.push(1), own_writer.close_reason())
        for wait in (future, own_future, stream, own_stream):
            asyncio.events._set_running_loop(None)
            async def use():
                await (wait if asyncio.isfuture(wait) else anext(wait))
            try:
                asyncio.Runner(loop_factory=Loop).run(use())
            except aiobridge.ClosedError as error:
                print("forked" in str(error))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main())
""".replace("os._exit(0)", "sys.stdout.flush(); os._exit(0)").replace("import asyncio, os", "import asyncio, os, sys"),
        wakeup=wakeup,
    )
    assert done.stdout.splitlines() == [
        "closed forked",
        "closed forked False",
        "closed forked",
        "closed forked",
        "closed forked",
        *["True"] * 4,
    ]
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.fixture
def import_work(tmp_path, loop_class):
    """The line of a script that imports `work`, which processes of multiprocessing have to import too."""
    (tmp_path / "work.py").write_text(
        f"""
import asyncio, native, signal
Loop = {loop_class}
async def main(number):
    return await native.add(number)
def work(number):
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main(number))
def check(number):
    signal.alarm(10)
    assert work(number) == number + 1
"""
    )
    return f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import work"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_45_workers_of_multiprocessing_use_the_library(run_python, wakeup, import_work, method):
    done = run_python(
        f"""
{import_work}
import multiprocessing, warnings
if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    print(work.work(0))
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(pool.map(work.work, range(4)))
""",
        wakeup=wakeup,
        timeout=50,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n[1, 2, 3, 4]\n", "", 0)


# The workers of a pool are killed, while a Process ends by itself. Only the forked ones are timed: others import
# everything first, and those of a fork server are no children of this process.
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_45_a_process_started_in_a_loops_full_traffic_uses_the_library_and_exits(
    run_python, wakeup, loop_class, import_work, method
):
    done = run_python(
        f"""
{import_work}
import asyncio, multiprocessing, os, time, warnings, native
warnings.simplefilter("ignore", DeprecationWarning)
{WAIT_UNTIL_GONE}
context = multiprocessing.get_context({method!r})
taken = 0
async def take(flood):
    global taken
    async for _ in flood:
        taken += 1
async def main():
    flood = native.flood(4)
    consumer = asyncio.ensure_future(take(flood))
    for number in range({sizes.FORKS if method == "fork" else 2}):
        before = taken
        assert await native.add(number) == number + 1  # so there are threads of the pool, which a child does not have
        while taken == before:
            await asyncio.sleep(0)
        process = context.Process(target=work.check, args=(number,))
        process.start()
        if {method == "fork"}:
            await asyncio.to_thread(wait_until_gone, process.pid)
        await asyncio.to_thread(process.join, 20)
        assert process.exitcode == 0, process.exitcode
    await flood.aclose()
    await consumer
    stats = flood.stats()
    assert stats.accepted == stats.delivered + stats.evicted + stats.merged + stats.undelivered + stats.pending
    assert stats.delivered == taken
    print("parent", await native.add(1))
if __name__ == "__main__":
    with asyncio.Runner(loop_factory={loop_class}) as runner:
        runner.run(main())
""",
        wakeup=wakeup,
        timeout=sizes.PATIENCE,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("parent 2\n", "", 0)
