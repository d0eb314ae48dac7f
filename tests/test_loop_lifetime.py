"""Loops that close, stop, disappear, nest, or live in several threads; signals; wakers and their configuration."""

import asyncio
import os
import threading
import time

import native
import pytest
from loops import LoopWithoutReaders

import aiobridge


def run(new_loop, main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


async def test_configuring_a_loop_that_has_its_waker_is_refused(request):
    mode = "fd" if "-fd" in request.node.name else "call_soon"
    other = "call_soon" if mode == "fd" else "fd"
    aiobridge.configure(wakeup=mode)
    with pytest.raises(RuntimeError, match=f"uses wakeup '{mode}' already"):
        aiobridge.configure(wakeup=other)
    with pytest.raises(ValueError, match="wakeup is 'magic'; it must be 'call_soon' or 'fd'"):
        aiobridge.configure(wakeup="magic")


def test_a_wrong_waker_in_the_environment_is_refused_at_import(run_python):
    done = run_python("import aiobridge", wakeup="magic")
    assert "AIOBRIDGE_WAKEUP is 'magic'; it must be 'call_soon' or 'fd'" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_a_loop_without_readers_falls_back_to_call_soon(wakeup):
    before = aiobridge.stats().fd_fallbacks

    async def main():
        aiobridge.configure(wakeup=wakeup)
        assert await asyncio.gather(*(native.add(i, 0) for i in range(100))) == list(range(100))
        return native.make_Promise()

    promise, future = run(LoopWithoutReaders, main())
    assert aiobridge.stats().fd_fallbacks == before + (wakeup == "fd")
    # The loop is closed, and nobody has told us: the next post finds out.
    promise.set(1)
    with pytest.raises(aiobridge.ClosedError):
        future.result(timeout=20)
    assert promise.reason in ("finished", "loop_closed")


def test_a_closed_loop_refuses_what_is_posted_and_says_why(new_loop):
    async def main():
        return native.make_Promise(), native.make_stream(), native.Recorder()

    loop = new_loop()
    (promise, future), (writer, stream), recorder = loop.run_until_complete(main())
    promise.on_cancel(recorder)
    assert writer.push(1) == "accepted"
    loop.close()
    assert promise.set(1) == "closed"
    assert promise.reason == "loop_closed"
    assert writer.push(2) == "closed"
    assert writer.reason == "loop_closed"
    assert recorder.wait(1)
    assert recorder.records[0] == "loop_closed on aiobridge-hooks"
    with pytest.raises(aiobridge.ClosedError):
        future.result()
    assert stream.closed


def test_a_loop_that_runs_in_another_thread_later(new_loop):
    loop = new_loop()

    async def main():
        return [number async for number in native.numbers(1000)], await native.add(1)

    assert loop.run_until_complete(main()) == (list(range(1000)), 2)
    results = []
    thread = threading.Thread(target=lambda: results.append(loop.run_until_complete(main())))
    thread.start()
    thread.join()
    assert results == [(list(range(1000)), 2)]
    loop.close()


def test_keyboard_interrupt_of_a_conversion_leaves_the_loop_and_loses_nothing(new_loop):
    loop = new_loop()
    received = []

    async def start():
        pairs = [native.make_ChosenPromise() for _ in range(6)]

        async def wait(future):
            received.append(await future)

        tasks = [asyncio.create_task(wait(future)) for _, future in pairs[1:]]
        return pairs, tasks

    pairs, tasks = loop.run_until_complete(start())
    for number, (promise, _) in enumerate(pairs):
        promise.set("interrupt" if number == 0 else str(number))
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_until_complete(asyncio.wait(tasks))
    assert received == ["1", "2", "3", "4", "5"]
    with pytest.raises(KeyboardInterrupt):
        pairs[0][1].result()
    loop.close()


def test_system_exit_of_a_resumed_task_leaves_the_loop_and_loses_nothing(new_loop):
    loop = new_loop()
    received = []

    async def start():
        burst = native.Burst()
        futures = burst.make(10)

        async def wait(number):
            received.append(await futures[number])
            if number == 3:
                raise SystemExit(3)

        return burst, [asyncio.create_task(wait(number)) for number in range(10)]

    burst, tasks = loop.run_until_complete(start())
    burst.go(1)
    burst.join()
    with pytest.raises(SystemExit):
        loop.run_forever()
    loop.run_until_complete(asyncio.wait(tasks))
    assert sorted(received) == list(range(10))
    with pytest.raises(SystemExit):
        tasks[3].result()
    loop.close()


class InterruptedLoop(asyncio.SelectorEventLoop):
    """A signal handler may raise KeyboardInterrupt inside any Python function that the drain calls."""

    interrupt_next = ""

    def interrupt(self, function):
        # As signal handlers do, in the main thread only: the notifier asks the loop too.
        if self.interrupt_next == function and threading.current_thread() is threading.main_thread():
            self.interrupt_next = ""
            raise KeyboardInterrupt

    def get_debug(self):
        self.interrupt("get_debug")
        return super().get_debug()

    def call_soon(self, callback, *args, context=None):
        self.interrupt("call_soon")
        handle = super().call_soon(callback, *args, context=context)
        self.interrupt("call_soon, after it was queued")
        return handle


@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
@pytest.mark.parametrize("function", ["get_debug", "call_soon", "call_soon, after it was queued"])
@pytest.mark.parametrize("waiting", ["tasks", "callbacks"])
def test_an_interrupt_inside_the_drain_comes_out_and_loses_nothing(wakeup, function, waiting):
    loop = InterruptedLoop()
    received = []

    async def start():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        futures = burst.make(20)

        async def wait(future):
            received.append(await future)

        if waiting == "tasks":
            return burst, [asyncio.create_task(wait(future)) for future in futures]
        for future in futures:
            future.add_done_callback(lambda done: received.append(done.result()))
        return burst, futures

    burst, waiters = loop.run_until_complete(start())
    burst.go(1)
    burst.join()
    loop.interrupt_next = function
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()

    async def rest():
        while len(received) < 20:
            await asyncio.sleep(0)

    loop.run_until_complete(asyncio.wait_for(rest(), 20))
    assert received == list(range(20))
    loop.close()
    del waiters


@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_a_nested_loop_inside_a_resumed_task_gets_the_rest_of_the_batch(wakeup):
    """The drain is suspended in the task that runs the nested loop; the batch must go on without it."""
    loop = asyncio.SelectorEventLoop()
    received = []

    async def main():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        futures = burst.make(3)
        done = asyncio.Event()

        async def nest():
            received.append(await futures[0])
            asyncio.events._set_running_loop(None)
            asyncio.tasks._leave_task(loop, this := asyncio.current_task(loop))
            while not last.done():  # what nest_asyncio's run_until_complete does
                loop._run_once()
            asyncio.tasks._enter_task(loop, this)
            asyncio.events._set_running_loop(loop)
            received.append("nested loop left")
            done.set()

        async def wait(number):
            asyncio.events._set_running_loop(loop)
            received.append(await futures[number])

        first = asyncio.create_task(nest())
        second = asyncio.create_task(wait(1))
        last = asyncio.create_task(wait(2))
        await asyncio.sleep(0)
        burst.go(1)
        burst.join()
        await done.wait()
        await asyncio.wait([first, second, last])

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    assert received == [0, 1, 2, "nested loop left"]
    loop.close()


@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_a_nested_loop_inside_a_resumed_task_gets_new_results(wakeup):
    loop = asyncio.SelectorEventLoop()

    async def main():
        aiobridge.configure(wakeup=wakeup)
        future = native.add(1)
        assert await future == 2
        promise, inner = native.make_Promise()
        this = asyncio.current_task()
        asyncio.tasks._leave_task(loop, this)
        promise.set_from_thread(3)
        while not inner.done():
            loop._run_once()
        asyncio.tasks._enter_task(loop, this)
        return inner.result()

    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    assert loop.run_until_complete(asyncio.wait_for(main(), 20)) == 3
    assert contexts == []
    loop.close()


class FailingLoop(asyncio.SelectorEventLoop):
    """Is out of memory for a moment, when the drain asks for another turn."""

    fail_next = False

    def call_soon(self, callback, *args, context=None):
        if self.fail_next:
            self.fail_next = False
            raise MemoryError
        return super().call_soon(callback, *args, context=context)


@pytest.mark.parametrize("wakeup", ["call_soon", "fd"])
def test_a_loop_that_fails_once_hangs_no_task(wakeup):
    loop = FailingLoop()
    reported = []
    loop.set_exception_handler(lambda loop, context: reported.append(context["message"]))

    async def main():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        futures = burst.make(8)

        async def wait(future):
            return await future

        tasks = [asyncio.create_task(wait(future)) for future in futures]
        await asyncio.sleep(0)
        burst.go(1)
        burst.join()
        loop.fail_next = True
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        await native.nothing()  # a new bridge, whose first use reports
        return done

    done = loop.run_until_complete(main())
    assert all(isinstance(result, int | aiobridge.ClosedError) for result in done)
    assert any(isinstance(result, aiobridge.ClosedError) for result in done)
    assert any("could not be called" in message for message in reported)
    loop.close()


def test_loops_that_close_with_a_wake_in_flight_do_not_disturb_others(wakeup):
    """The notifier serves all loops: what goes wrong with one must not reach the next."""
    stop = threading.Event()

    def closer():
        async def main():
            aiobridge.configure(wakeup=wakeup)
            native.make_Promise()[0].set_from_thread(1)
            native.add(1)

        while not stop.is_set():
            asyncio.run(main())

    async def main():
        aiobridge.configure(wakeup=wakeup)
        return [await native.add(number, 0) for number in range(20)]

    thread = threading.Thread(target=closer)
    thread.start()
    try:
        for _ in range(50):
            assert asyncio.run(asyncio.wait_for(main(), 20)) == list(range(20))
    finally:
        stop.set()
        thread.join()


def test_threads_have_names(run_python):
    done = run_python(
        """
import asyncio, pathlib, aiobridge, native
async def main():
    _promise, future = native.make_Promise()
    recorder = native.Recorder()
    _promise.on_cancel(recorder)
    future.cancel()
    recorder.wait(1)
    await native.nothing()
asyncio.run(main())
names = {task.joinpath("comm").read_text().strip() for task in pathlib.Path("/proc/self/task").iterdir()}
print(sorted(name for name in names if name.startswith("aio")))
"""
    )
    assert done.stdout == "['aiobridg-notify', 'aiobridg-pool-0', 'aiobridge-hooks']\n"
    assert (done.stderr, done.returncode) == ("", 0)


def test_no_thread_takes_the_gil_with_the_fd_waker(run_python):
    done = run_python(
        """
import asyncio, pathlib, aiobridge, native
async def main():
    await native.nothing()
    print([number async for number in native.numbers(3)])
asyncio.run(main())
names = {task.joinpath("comm").read_text().strip() for task in pathlib.Path("/proc/self/task").iterdir()}
print(sorted(name for name in names if name.startswith("aio")))
""",
        wakeup="fd",
    )
    assert done.stdout == "[0, 1, 2]\n['aiobridg-pool-0']\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_late_posts_never_reach_a_recycled_descriptor(wakeup):
    async def main():
        aiobridge.configure(wakeup=wakeup)
        await native.nothing()
        return native.make_Promise()

    before = set(os.listdir("/proc/self/fd"))
    promise, _future = asyncio.run(main())
    pipes = [os.pipe() for _ in range(20)]
    promise.set(1)
    try:
        for read, _write in pipes:
            os.set_blocking(read, False)
            with pytest.raises(BlockingIOError):
                os.read(read, 8)
    finally:
        for pipe in pipes:
            for descriptor in pipe:
                os.close(descriptor)
    del promise, _future
    deadline = time.monotonic() + 20
    while set(os.listdir("/proc/self/fd")) != before:  # the notifier may not have let go of the bridge yet
        assert time.monotonic() < deadline
        time.sleep(0.001)
