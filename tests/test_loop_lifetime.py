"""Loops that close, stop, disappear, nest, or live in several threads; signals; wakers and their configuration."""

import asyncio
import threading

import native
import pytest
from loops import LoopWithoutReaders

import aiobridge


def run(new_loop, main):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


async def test_configuring_a_loop_that_has_its_waker_is_refused(request):
    if isinstance(asyncio.get_running_loop(), LoopWithoutReaders):
        pytest.skip("a loop without readers takes either, and has call_soon")
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
