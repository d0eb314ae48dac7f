"""What the interpreter's exit does about what is open, and what a child process has of its parent."""

from forking import needs_fork_with_threads


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
import aiobridge, asyncio, contextlib, threading, native
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
    with contextlib.suppress(aiobridge.ClosedError):  # without a GIL it may still be told of the exit
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


# Fails if the parent's descriptors stay open; or settings are lost; or inherited objects are counted
@needs_fork_with_threads
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
