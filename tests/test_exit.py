"""The interpreter's exit with native threads that post at full speed; and forks."""

import os

import pytest

FLOOD = """
import asyncio, signal, sys, threading, aiobridge, native
server = native.make_server(4)
async def main():
    stream = native.flood(4)
    count = 0
    async for _ in stream:
        count += 1
        if count % 64 == 0:
            await server.ask()
        if count >= 2000:
            break
    {inside}
{outside}
"""

ENDINGS = {
    "return": ("pass", "asyncio.run(main())", 0, ""),
    "sys.exit": ("sys.exit(3)", "asyncio.run(main())", 3, ""),
    "exception": ("raise KeyError('it ends')", "asyncio.run(main())", 1, "KeyError: 'it ends'\n"),
    "sigint": (
        "signal.raise_signal(signal.SIGINT); await asyncio.sleep(20)",
        "asyncio.run(main())",
        -2,
        "KeyboardInterrupt\n",
    ),
    "os._exit": ("import os; os._exit(7)", "asyncio.run(main())", 7, ""),
    "daemon": (
        "ready.set(); await asyncio.sleep(60)",
        "ready = threading.Event()\n"
        "threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()\n"
        "ready.wait()",
        0,
        "",
    ),
}


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_exit_with_eight_threads_posting(run_python, wakeup, ending, loop):
    inside, outside, code, error = ENDINGS[ending]
    if loop == "uvloop":
        outside = outside.replace("asyncio.run(", "uvloop.run(")
        outside = "import uvloop\n" + outside
    for _ in range(2):
        done = run_python(FLOOD.format(inside=inside, outside=outside), wakeup=wakeup)
        assert done.returncode == code, done.stderr
        if error:
            assert done.stderr.endswith(error)
        else:
            assert done.stderr == ""


def test_twenty_exits_with_eight_threads_posting(run_python, wakeup):
    script = FLOOD.format(inside="pass", outside="asyncio.run(main())")
    for _ in range(20):
        done = run_python(script, wakeup=wakeup)
        assert (done.returncode, done.stderr) == (0, "")


def test_a_handle_used_after_the_interpreter_is_gone_answers_closed(run_python, wakeup):
    done = run_python(
        """
import asyncio, native
async def main():
    native.kept = native.post_at_process_end()
asyncio.run(main())
async def again():
    native.kept = native.post_at_process_end()
    await native.nothing()
loop = asyncio.new_event_loop()
loop.run_until_complete(again())
native.loop = loop
""",
        wakeup=wakeup,
    )
    assert done.stdout == "after exit: interpreter_exit\n"
    assert done.returncode == 0


def test_a_loop_in_a_thread_gets_its_results_while_the_interpreter_waits_for_it(run_python, wakeup):
    done = run_python(
        """
import asyncio, threading, native
async def main():
    threading.main_thread().join()
    print(sum([await native.add(i, 0) for i in range(20)]))
threading.Thread(target=lambda: asyncio.run(main())).start()
""",
        wakeup=wakeup,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("190\n", "", 0)


def test_functions_called_at_exit(run_python, wakeup):
    """Registered after us they run before us, and all works; the others come after the end."""
    done = run_python(
        """
import atexit, asyncio
async def main():
    return await native.add(1)
def run(name):
    try:
        print(name, asyncio.run(main()))
    except RuntimeError as error:
        print(name, type(error).__name__, error)
atexit.register(run, "after")
import native
atexit.register(run, "before")
""",
        wakeup=wakeup,
    )
    assert done.stdout.startswith("before 2\nafter ")
    assert "interpreter exits" in done.stdout.splitlines()[1]
    assert (done.stderr, done.returncode) == ("", 0)


def test_exit_runs_the_hooks_of_what_is_open(run_python, wakeup):
    done = run_python(
        """
import asyncio, atexit
atexit.register(lambda: print(recorder.records))  # before the import, so run after
import native
recorder = native.Recorder()
async def main():
    native.pair = native.make_stream(recorder=recorder)
native.loop = asyncio.new_event_loop()
native.loop.run_until_complete(main())
""",
        wakeup=wakeup,
    )
    assert done.stdout == "['interpreter_exit on aiobridge-hooks']\n"
    assert done.returncode == 0


def test_an_operation_that_still_runs_at_exit_does_not_keep_the_process(run_python, wakeup):
    done = run_python(
        """
import asyncio, native
async def main():
    recorder = native.Recorder()
    native.kept = native.run_until_stopped(recorder)
    await asyncio.to_thread(recorder.wait, 1)
asyncio.run(main())
""",
        wakeup=wakeup,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_daemon_thread_that_waits_for_a_result_does_not_abort_the_exit(run_python, wakeup):
    """Up to Python 3.13 such a thread is ended by unwinding; it must not meet a noexcept on the way."""
    script = """
import asyncio, threading, native
ready, waits = threading.Event(), threading.Event()
async def main():
    global pair
    pair = native.make_Promise()
    ready.set()
    await asyncio.sleep(60)
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
ready.wait()
def wait():
    waits.set()
    pair[1].result()
threading.Thread(target=wait, daemon=True).start()
waits.wait()
"""
    for _ in range(3):
        done = run_python(script, wakeup=wakeup)
        assert (done.returncode, done.stderr) == (0, "")


def test_waiting_for_a_result_after_the_end_says_so(run_python):
    done = run_python(
        """
import atexit
def late():
    promise, future = pair
    try:
        future.result()
    except RuntimeError as error:
        print(type(error).__name__, error)
atexit.register(late)
import native
pair = native.make_Promise()
"""
    )
    assert "ClosedError" in done.stdout
    assert "interpreter exits" in done.stdout
    assert done.returncode == 0


FORK = """
import asyncio, os, sys, warnings, native, aiobridge
warnings.simplefilter("ignore", DeprecationWarning)
async def child_main():
    return await native.add(1), [number async for number in native.numbers(100)] == list(range(100))
async def main():
    stream = native.flood(4)
    writer, own = native.make_stream(recorder=native.Recorder())
    promise, future = native.make_Promise()
    await native.nothing()
    for _ in range(5):
        async for _ in stream:
            break
        child = os.fork()
        if child == 0:
            asyncio.events._set_running_loop(None)
            asyncio.set_event_loop(None)
            ok = (writer.push(1), writer.reason, promise.set(1), promise.reason) == ("closed", "forked") * 2
            try:
                future.result(timeout=1)
            except aiobridge.ClosedError as error:
                ok = ok and "forked" in str(error)
            ok = ok and asyncio.run(child_main()) == (2, True)
            del stream, own, future, writer, promise
            {end}
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert writer.push(5) == "accepted"
    assert await anext(own) == 5
    promise.set(6)
    assert await future == 6
    print("parent", await native.add(1))
asyncio.run(main())
"""


@pytest.mark.skipif(
    "AIOBRIDGE_TEST_SANITIZE" in os.environ,
    reason="the allocator of AddressSanitizer does not survive a fork while other threads allocate",
)
@pytest.mark.parametrize("end", ["sys.exit(0 if ok else 1)", "os._exit(0 if ok else 1)"])
def test_a_child_process_starts_anew_and_the_parent_goes_on(run_python, wakeup, end):
    if end.startswith("sys"):
        # SystemExit must not go through the parent's loop, which is on the child's stack.
        end = "import atexit; atexit._run_exitfuncs(); os._exit(0 if ok else 1)"
    done = run_python(FORK.format(end=end), wakeup=wakeup)
    assert (done.stdout, done.stderr, done.returncode) == ("parent 2\n", "", 0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(tmp_path, run_python, wakeup, method):
    (tmp_path / "work.py").write_text(
        """
import asyncio, native
async def main(number):
    return await native.add(number)
def work(number):
    return asyncio.run(main(number))
"""
    )
    done = run_python(
        f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import multiprocessing, warnings, work
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


# Fails if the parent's descriptors stay open; or settings are lost; or inherited objects are counted
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_has_the_settings_and_nothing_else_of_its_parent(run_python):
    done = run_python(
        """
import asyncio, os, pathlib, warnings, aiobridge, native
warnings.simplefilter("ignore", DeprecationWarning)
aiobridge.configure(wakeup="fd", pool_threads=3)
def eventfds():
    return sum("eventfd" in os.readlink(each) for each in pathlib.Path("/proc/self/fd").iterdir() if each.is_symlink())
async def child_main():
    recorder = native.Recorder()
    futures = [native.run_until_stopped(recorder) for _ in range(5)]
    await asyncio.to_thread(recorder.wait, 3)
    for future in futures:
        future.cancel()
    names = [task.joinpath("comm").read_text().strip() for task in pathlib.Path("/proc/self/task").iterdir()]
    return aiobridge.stats().pool_threads, "aiobridg-notify" in names
async def main():
    pair = native.make_Promise()
    assert eventfds() == 1
    child = os.fork()
    if child == 0:
        stats = aiobridge.stats()
        asyncio.events._set_running_loop(None)
        asyncio.set_event_loop(None)
        print(eventfds(), stats.loops, stats.operations, asyncio.run(child_main()), flush=True)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
asyncio.run(main())
"""
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0 0 0 (3, False)\n", "", 0)


# Fails if what is left to report at exit is not reported
def test_a_hook_that_throws_at_exit_is_logged(run_python):
    done = run_python("import native\nfuture = native.hook_that_throws()\nfuture.cancel()\n")
    assert "the hook failed" in done.stderr
    assert done.returncode == 0


def test_the_exit_waits_for_the_notifiers_call(run_python):
    script = """
import aiobridge, asyncio, contextlib, threading, time, native
inside = threading.Event()
class SlowLoop(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, *args, **kwargs):
        inside.set()
        time.sleep(0.3)
        print("returned", flush=True)
        return super().call_soon_threadsafe(*args, **kwargs)
async def main():
    promise, future = native.make_Promise()
    promise.set_from_thread(1)
    with contextlib.suppress(aiobridge.ClosedError):  # by the exit, if that is first
        await future
threading.Thread(target=lambda: SlowLoop().run_until_complete(main()), daemon=True).start()
inside.wait()
"""
    done = run_python(script, wakeup="call_soon")
    assert (set(done.stdout.split()), done.stderr, done.returncode) == ({"returned"}, "", 0)
