"""The interpreter's exit with native threads that post at full speed, or that are inside it."""

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
WITHOUT_A_GIL = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
LIMIT = 15 if WITHOUT_A_GIL else 5

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


def test_07_the_exit_waits_for_the_notifiers_call_of_a_loop(run_python, loop_class):
    done = run_python(
        f"""
import aiobridge, asyncio, contextlib, threading, time, native
inside = threading.Event()
class SlowLoop({loop_class}):
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
def run():
    with contextlib.closing(SlowLoop()) as loop:
        loop.run_until_complete(main())
threading.Thread(target=run, daemon=True).start()
inside.wait()
""",
        wakeup="call_soon",
    )
    assert (set(done.stdout.split()), done.stderr, done.returncode) == ({"returned"}, "", 0)


HELD = """
import asyncio, threading, time, native
inside = threading.Event()
def hold():
    inside.set()
    {hold}
    print("returned", flush=True)
async def main():
    return native.call_with_gil(hold, False)
loop = asyncio.new_event_loop()
future = loop.run_until_complete(main())
inside.wait()
"""


def test_07_the_exit_waits_for_a_native_thread_inside_the_gil_guard(run_python):
    done = run_python(HELD.format(hold="time.sleep(0.3)"))
    assert (done.stdout, done.stderr, done.returncode) == ("returned\n", "", 0)


def is_one_warning(text):
    message = "RuntimeWarning: aiobridge: a thread did not come out of aiobridge::gil, or of a loop's"
    return message in text and text.count("\n") == 1


def test_08_the_exit_gives_up_on_a_native_thread_that_stays_inside_the_gil_guard(run_python):
    done = run_python(HELD.format(hold="threading.Event().wait()"))
    assert is_one_warning(done.stderr), done.stderr
    assert (done.stdout, done.returncode) == ("", 0)


# A thread is inside of something that never returns, and the exit soon gives up on it. What is freed last gives that
# thread the time to ask for the GIL, and then uses handles, for which no lock may be left held.
GIVING_UP = """
import asyncio, contextlib, gc, os, sys, threading, time, types, weakref, aiobridge, native
from aiobridge import _core
assert _core._set_exit_patience(0.05) == 5
inside = threading.Event()
class Late:
    def __init__(self):
        self.promise, self.future = aiobridge.make_promise()
    def __del__(self, sleep=time.sleep, write=os.write, stats=aiobridge.stats):
        sleep(0.1)
        stats()
        write(1, " ".join([self.promise.set_result(1), self.promise.close_reason()]).encode())
sys.modules["late"] = types.ModuleType("late")  # not this one, whose names a thread's frame keeps
sys.modules["late"].it = Late()
"""
AFTER = "closed interpreter_exit"

# The notifier, in a loop's function. `move` is what that does.
STUCK = (
    GIVING_UP
    + """
class StuckLoop({Loop}):
    def call_soon_threadsafe(self, *args, **kwargs):
        inside.set()
        while threading.current_thread() is not threading.main_thread():
            {move}
        return super().call_soon_threadsafe(*args, **kwargs)
async def main():
    promise, future = native.make_Promise()
    promise.set_from_thread(1)
    await asyncio.sleep(60)
threading.Thread(target=lambda: StuckLoop().run_until_complete(main()), daemon=True).start()
inside.wait()
sys.exit(3)
"""
)


def test_08_the_exit_gives_up_on_a_loop_that_does_not_return(run_python, loop_class):
    done = run_python(STUCK.format(Loop=loop_class, move="threading.Event().wait()"), wakeup="call_soon")
    assert is_one_warning(done.stderr), done.stderr
    assert (done.stdout, done.returncode) == (AFTER, 3)


def test_52_the_notifier_is_ended_by_python_inside_a_loops_function_and_nothing_aborts(run_python, loop_class):
    """It asks for the GIL again and again while Python goes; up to 3.13 Python ends such a thread by unwinding it."""
    for _ in range(sizes.EXITS):
        done = run_python(STUCK.format(Loop=loop_class, move="time.sleep(0.001)"), wakeup="call_soon")
        assert is_one_warning(done.stderr), done.stderr
        assert (done.stdout, done.returncode) == (AFTER, 3)


# The hook thread, in a hook.
HOOKED = (
    GIVING_UP
    + """
def hook(reason, sleep=time.sleep):
    inside.set()
    while True:
        sleep(0.001)
promise, future = aiobridge.make_promise()
promise.on_cancel(hook)
future.cancel()
inside.wait()
sys.exit(3)
"""
)


def test_52_the_hook_thread_is_ended_by_python_inside_a_hook_and_nothing_aborts(run_python):
    for _ in range(sizes.EXITS):
        done = run_python(HOOKED)
        assert done.stderr.count("\n") == 1
        assert "hook did not return within 5 s of the interpreter's exit" in done.stderr
        assert (done.stdout, done.returncode) == (AFTER, 3)


# A daemon thread, in foreign code that ours calls, asks for the GIL again and again while Python goes.
FOREIGN = (
    GIVING_UP
    + """
# Locks, and not events: the main thread must not collect garbage between these.
begin, reached = threading.Lock(), threading.Lock()
begin.acquire()
reached.acquire()
def stay(*_, sleep=time.sleep):
    if threading.current_thread() is threading.main_thread():
        return False
    reached.release()
    while True:
        sleep(0.001)
class Shown:
    __repr__ = stay
class Counted:
    __index__ = stay
class Freed:
    __del__ = stay
class Meta(type):
    __subclasscheck__ = stay
class Foreign(Exception, metaclass=Meta):
    pass
def collect_next():
    "By the next allocation; from Python 3.12 on, by the next look for signals. Or by another thread that is faster."
    gc.disable()
    gc.collect()
    garbage = Freed()
    garbage.itself = garbage
    del garbage
    kept.extend([[] for _ in range(1000)])
    gc.enable()
kept = []
class Unable({Loop}):
    def call_exception_handler(self, context):
        raise KeyError("nobody listens")
async def main():
    promise, future = aiobridge.make_promise()
    writer, stream = aiobridge.make_stream()
    {call}
def run():
    with asyncio.Runner(loop_factory=Unable) as runner:
        begin.acquire()
        runner.run(main())
threading.Thread(target=run, daemon=True).start()
begin.release()
reached.acquire()
sys.exit(3)
"""
)


CALLS = {
    "repr": "promise.set_exception(Shown())",
    "index": "stream.batches(Counted())",
    "result": """
    promise.set_result(Freed())
    while not future.done():
        await asyncio.sleep(0)
    del future
""",
    "report": """
    promise.set_exception(KeyError("nobody takes it"))
    while not future.done():
        await asyncio.sleep(0)
    sys.unraisablehook = stay
    del future
""",
    "weak reference of a future": """
    reference = weakref.ref(future, stay)
    del future
""",
    "weak reference of a stream": """
    reference = weakref.ref(stream, stay)
    del stream
""",
    "exception's class": """
    promise.set_exception(Foreign())
    await future
""",
    "collection while one is made": """
    while True:
        collect_next()
        aiobridge.make_promise()
""",
    "collection while one is waited for": """
    def wait():
        promise, future = aiobridge.make_promise()
        while True:
            with contextlib.suppress(TimeoutError):
                collect_next()
                {0}, future.result(0.001)  # no free list has a set
    threading.Thread(target=wait, daemon=True).start()
    await asyncio.sleep(60)
""",
}

# In a drain.
CALLS_OF_A_DRAIN = {
    "task": """
    async def wait():
        await future
        stay()
    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    promise.set_result(1)
    await task
""",
    "debug mode": """
    promise.set_result(1)
    await future
    promise, future = aiobridge.make_promise()
    here = threading.current_thread()
    Unable.get_debug = lambda self: threading.current_thread() is here and stay()  # not the notifier
    promise.set_result(1)
    await future
""",
}


@pytest.fixture
def ends_in_silence(run_python, loop_class):
    def ends(call, wakeup=""):
        for _ in range(max(sizes.EXITS // 5, 1)):
            done = run_python(FOREIGN.format(Loop=loop_class, call=call), wakeup=wakeup)
            assert (done.stdout, done.stderr, done.returncode) == (AFTER, "", 3)

    return ends


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_52_a_daemon_thread_is_ended_by_python_inside_what_ours_calls_and_nothing_aborts(ends_in_silence, call):
    if WITHOUT_A_GIL and "collect_next" in call:
        pytest.skip("without a GIL Python collects garbage at a moment of its own")
    ends_in_silence(call)


@pytest.mark.parametrize("call", CALLS_OF_A_DRAIN.values(), ids=CALLS_OF_A_DRAIN)
def test_52_a_daemon_thread_is_ended_by_python_inside_a_drain_and_nothing_aborts(ends_in_silence, wakeup, call):
    ends_in_silence(call, wakeup)


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
