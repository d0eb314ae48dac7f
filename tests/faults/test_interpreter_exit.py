"""The interpreter's exit with native threads that post at full speed."""

import signal
import sysconfig
import time

import pytest
import sizes

pytestmark = pytest.mark.timeout(sizes.PATIENCE)

# Eight native threads push, and complete promises of their own, until the process is gone; four more complete what is
# asked for. `leaving` is printed at the moment from which the exit is timed.
FLOOD = """
import asyncio, os, signal, sys, threading, time, aiobridge, native
Loop = {Loop}
server = native.make_server(4)
def run(main):
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)
def leaving():
    print(time.monotonic(), flush=True)
async def main():
    stream = native.flood(8)
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

# So that wakes and drains go on while the loop is left: without them eight threads would fill a stream that nobody
# reads, and the other four would have nothing to complete.
IN_TRAFFIC = """
    answers = 0
    async def ask():
        nonlocal answers
        while True:
            answers += await server.ask()
    async def take():
        async for _ in stream:
            pass
    traffic = [asyncio.create_task(ask()) for _ in range(4)] + [asyncio.create_task(take())]
    while answers < 100:
        await asyncio.sleep(0)
    """

# Seconds. Without a GIL, Python 3.13 yields the processor 40 times whenever it closes a file, for a lock that the
# thread holds itself. Eight threads take it, and the files of a traceback are seconds where other processes run too.
LIMIT = (15 if sysconfig.get_config_var("Py_GIL_DISABLED") else 5) * sizes.SLOWNESS

TRACEBACK = "Traceback (most recent call last):"


@pytest.fixture
def leave(run_python, wakeup, loop_class):
    """Run the flood, leave it in a way, and look how the process has ended."""

    def run(inside, *, outside="run(main())", code, error=()):
        script = FLOOD.format(Loop=loop_class, inside=IN_TRAFFIC + inside, outside=outside)
        for _ in range(sizes.EXITS):
            done = run_python(script, wakeup=wakeup)
            now = time.monotonic()
            assert done.returncode == code, done.stderr
            # Without the stacks, which are indented.
            assert [line for line in done.stderr.splitlines() if line and line[0] != " "] == [*error], done.stderr
            assert now - float(done.stdout) < LIMIT

    return run


def test_01_returning_from_main_with_eight_threads_posting(leave):
    leave("leaving()", code=0)


def test_01_returning_from_main_with_eight_threads_posting_to_a_loop_that_stays_open(leave):
    inside = """
    for task in traffic:
        task.cancel()
    await asyncio.wait(traffic)
    native.kept = stream, [server.ask() for _ in range(1000)]
    leaving()
"""
    outside = """
native.loop = Loop()
native.loop.run_until_complete(main())
"""
    leave(inside, outside=outside, code=0)


def test_02_sys_exit_in_a_task_with_eight_threads_posting(leave):
    leave("leaving(); sys.exit(3)", code=3)


def test_03_an_unhandled_exception_with_eight_threads_posting_leaves_its_traceback_only(leave):
    leave("leaving(); raise KeyError('it ends')", code=1, error=[TRACEBACK, "KeyError: 'it ends'"])


def test_03_an_interrupt_with_eight_threads_posting_leaves_its_traceback_only(leave):
    inside = "leaving(); signal.raise_signal(signal.SIGINT); await asyncio.sleep(20)"
    during = "During handling of the above exception, another exception occurred:"
    error = [TRACEBACK, "asyncio.exceptions.CancelledError", during, TRACEBACK, "KeyboardInterrupt"]
    leave(inside, code=-signal.SIGINT, error=error)


def test_04_a_loop_that_still_runs_in_a_daemon_thread_with_eight_threads_posting(leave):
    outside = """
ready = threading.Event()
threading.Thread(target=lambda: run(main()), daemon=True).start()
ready.wait()
leaving()
"""
    leave("ready.set(); await asyncio.sleep(60)", outside=outside, code=0)


@pytest.mark.parametrize(
    ("way", "code"), [("os._exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL)]
)
def test_10_the_process_is_ended_from_within_with_eight_threads_posting(leave, way, code):
    leave(f"leaving(); {way}", code=code)


def test_05_a_loop_in_a_thread_gets_its_results_while_the_interpreter_waits_for_it(run_python, wakeup, loop_class):
    done = run_python(
        f"""
import asyncio, threading, native
Loop = {loop_class}
server = native.make_server(4)
async def main():
    threading.main_thread().join()
    print(sum([await server.ask() for _ in range(20)]), [number async for number in native.numbers(3)])
def run():
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
threading.Thread(target=run).start()
""",
        wakeup=wakeup,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("20 [0, 1, 2]\n", "", 0)


def test_06_a_handle_used_while_the_interpreter_ends_and_after_it_answers_closed(run_python, wakeup, loop_class):
    """In __del__ as modules are cleared, with time for eight posting threads; then in a static destructor of C++."""
    inside = """
    global late
    late = Late(native.make_stream(), native.make_Promise())
    native.kept = native.post_at_process_end()
"""
    outside = """
class Late:
    def __init__(self, stream, promise):
        self.writer, self.stream = stream
        self.promise, self.future = promise
    def __del__(self, sleep=time.sleep, write=os.write):
        sleep(0.15)
        answers = self.writer.push(1), self.writer.reason, self.promise.set(1), self.promise.reason
        write(1, " ".join(answers).encode() + bytes([10]))
native.loop = Loop()  # never closed
native.loop.run_until_complete(main())
"""
    for _ in range(sizes.EXITS):
        done = run_python(FLOOD.format(Loop=loop_class, inside=inside, outside=outside), wakeup=wakeup)
        assert done.stdout == "closed interpreter_exit closed interpreter_exit\nafter exit: interpreter_exit\n"
        assert (done.stderr, done.returncode) == ("", 0)


def test_09_of_two_functions_called_at_exit_the_one_registered_later_works(run_python, wakeup, loop_class):
    """Registered after us it runs before us, and all works; the other comes after the end, and is told so."""
    done = run_python(
        f"""
import atexit, asyncio
Loop = {loop_class}
async def main():
    return await native.add(1)
def run(name):
    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            print(name, runner.run(main()))
    except RuntimeError as error:
        print(name, type(error).__name__, error)
atexit.register(run, "after")
import native
atexit.register(run, "before")
""",
        wakeup=wakeup,
    )
    before, after = done.stdout.splitlines()
    assert before == "before 2"
    assert after.startswith("after ")
    assert "interpreter exits" in after
    assert (done.stderr, done.returncode) == ("", 0)
