"""Threads that are inside the interpreter when it exits: waited for, given up, ended by Python in the midst of ours."""

import sysconfig

import pytest
import sizes

pytestmark = pytest.mark.timeout(sizes.PATIENCE)


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
    if sysconfig.get_config_var("Py_GIL_DISABLED") and "collect_next" in call:
        pytest.skip("without a GIL Python collects garbage at a moment of its own")
    ends_in_silence(call)


@pytest.mark.parametrize("call", CALLS_OF_A_DRAIN.values(), ids=CALLS_OF_A_DRAIN)
def test_52_a_daemon_thread_is_ended_by_python_inside_a_drain_and_nothing_aborts(ends_in_silence, wakeup, call):
    ends_in_silence(call, wakeup)
