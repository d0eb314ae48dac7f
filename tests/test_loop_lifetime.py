"""Loops that close, stop, disappear, nest, or live in several threads; signals; wakers and their configuration."""

import asyncio
import gc
import os
import threading
import weakref

import native
import pytest

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


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """As Windows' Proactor loop: no add_reader. (The loop's own pipe uses _add_reader.)"""

    def add_reader(self, fd, callback, *args):
        raise NotImplementedError


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


def test_posts_race_with_the_close_of_the_loop(new_loop):
    for _ in range(100):
        loop = new_loop()

        async def main():
            burst = native.Burst()
            futures = burst.make(50)
            burst.go(2)
            await futures[0]
            return burst, futures

        burst, futures = loop.run_until_complete(main())
        loop.close()
        burst.join()
        for future in futures:
            assert future.done()
        del burst, futures


def test_a_loop_that_is_dropped_unclosed_is_collected(wakeup):
    async def main():
        aiobridge.configure(wakeup=wakeup)
        return native.make_Promise()

    loop = asyncio.SelectorEventLoop()
    promise, _future = loop.run_until_complete(main())
    reference = weakref.ref(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):  # noqa: PT031
        del loop
        gc.collect()
    assert reference() is None
    assert promise.set(1) == "closed"


def test_a_loop_that_stops_gets_its_results_when_it_runs_again(new_loop):
    loop = new_loop()
    received = []

    async def start():
        burst = native.Burst()
        futures = burst.make(20)

        async def wait():
            for future in futures:
                received.append(await future)

        return burst, asyncio.create_task(wait())

    async def rest(task):
        await task

    burst, task = loop.run_until_complete(start())
    burst.go(1)
    burst.join()
    assert received == []
    loop.run_until_complete(rest(task))
    assert received == list(range(20))
    loop.close()


def test_loops_one_after_another_do_not_mix(new_loop):
    kept = []
    for number in range(200):

        async def main(number=number):
            kept.append(native.make_Promise())
            return await native.add(number, 0)

        assert run(new_loop, main()) == number
    assert {promise.reason for promise, _ in kept} == {"loop_closed"}


def test_two_loops_in_two_threads(new_loop):
    results = {}

    def thread(name):
        async def main():
            here = threading.get_ident()
            threads = set()
            for _ in range(300):
                future = native.add(1)
                future.add_done_callback(lambda done: threads.add(threading.get_ident()))
                assert await future == 2
            await asyncio.sleep(0)
            results[name] = threads == {here}

        run(new_loop, main())

    threads = [threading.Thread(target=thread, args=(number,)) for number in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == {0: True, 1: True, 2: True}


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


@pytest.mark.skipif(
    "AIOBRIDGE_TEST_SANITIZE" in os.environ, reason="UndefinedBehaviorSanitizer needs descriptors to look at memory"
)
def test_no_descriptor_can_be_had(run_python):
    done = run_python(
        """
import asyncio, os, resource, aiobridge, native
async def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = os.dup(0)
    os.close(highest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        native.add(1)
    except OSError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(await native.add(1))
asyncio.run(main())
"""
    )
    assert "no descriptor for waking the loop" in done.stdout
    assert done.stdout.endswith("2\n")
    assert (done.stderr, done.returncode) == ("", 0)
