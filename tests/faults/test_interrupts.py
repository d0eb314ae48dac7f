"""KeyboardInterrupt and SystemExit: they leave whoever runs the loop, and the loop goes on when it is run again."""

import asyncio
import gc
import signal
import sys
import threading

import native
import pytest
from loops import make_refusing_loop
from waiting import until, wait_for

import aiobridge


def close_after_use(loop):
    """What is posted next still wakes it."""

    async def use():
        return await native.add(1)

    assert loop.run_until_complete(asyncio.wait_for(use(), 20)) == 2
    loop.close()


def interrupt_a_conversion(loop, kind, error, others):
    received = []

    async def start():
        pairs = [native.make_ChosenPromise() for _ in range(1 + others)]

        async def wait(future):
            received.append(await future)

        tasks = [asyncio.create_task(wait(future)) for _, future in pairs[1:]]
        return pairs, tasks

    pairs, tasks = loop.run_until_complete(start())
    for number, (promise, _) in enumerate(pairs):
        promise.set(kind if number == 0 else str(number))
    with pytest.raises(error):
        loop.run_forever()
    for task in tasks:
        loop.run_until_complete(task)
    assert received == [str(number) for number in range(1, 1 + others)]
    with pytest.raises(error):
        pairs[0][1].result()
    close_after_use(loop)


@pytest.mark.parametrize("others", [0, 5])
def test_24_keyboard_interrupt_of_a_conversion_leaves_the_loop_and_loses_nothing(new_loop, others):
    interrupt_a_conversion(new_loop(), "interrupt", KeyboardInterrupt, others)


@pytest.mark.parametrize("others", [0, 5])
def test_25_system_exit_of_a_conversion_leaves_the_loop_and_loses_nothing(new_loop, others):
    interrupt_a_conversion(new_loop(), "exit", SystemExit, others)


@pytest.mark.parametrize("waiting", ["tasks", "callbacks"])
def test_24_a_signal_that_comes_during_a_conversion_leaves_the_loop_and_loses_nothing(new_loop, waiting):
    """The next Python function that is called raises the interrupt: a task's, or the loop's own."""
    loop = new_loop()
    gate = native.ConversionGate()
    values = ["gated", "1", "2", "3", "4", "5"]
    called = []

    def same(value):
        return value

    async def wait(future):
        return same(await future)

    async def start():
        pairs = [native.make_ChosenPromise() for _ in values]
        tasks = [asyncio.create_task(wait(future)) for _, future in pairs] if waiting == "tasks" else []
        await asyncio.sleep(0)
        for _, future in pairs:
            future.add_done_callback(called.append)  # no Python function, which would end with the interrupt
        return pairs, tasks

    def interrupt():
        wait_for(lambda: gate.entered)
        signal.raise_signal(signal.SIGINT)
        gate.open()

    pairs, tasks = loop.run_until_complete(start())
    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    for value, (promise, _) in zip(values, pairs, strict=True):
        promise.set(value)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    interrupting.join()

    async def rest():
        await until(lambda: len(called) == len(values))
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = loop.run_until_complete(rest())
    assert called == [future for _, future in pairs]
    assert [future.result() for future in called] == values
    interrupted = [result for result in results if isinstance(result, KeyboardInterrupt)]
    assert len(interrupted) <= 1
    if tasks:
        assert all(result in (value, *interrupted) for result, value in zip(results, values, strict=True))
    close_after_use(loop)


def interrupt_a_resumed_task(loop, error, interrupt):
    received = []

    async def start():
        burst = native.Burst()
        futures = burst.make(10)

        async def wait(number):
            received.append(await futures[number])
            if number == 3:
                interrupt()

        tasks = [asyncio.create_task(wait(number)) for number in range(10)]
        await asyncio.sleep(0)
        return burst, tasks

    burst, tasks = loop.run_until_complete(start())
    burst.go(1)
    burst.join()
    with pytest.raises(error):
        loop.run_forever()
    loop.run_until_complete(asyncio.wait(tasks))
    assert received == list(range(10))
    with pytest.raises(error):
        tasks[3].result()
    close_after_use(loop)


def raise_keyboard_interrupt():
    raise KeyboardInterrupt


def signal_interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("interrupt", [raise_keyboard_interrupt, signal_interrupt])
def test_24_keyboard_interrupt_of_a_resumed_task_leaves_the_loop_and_loses_nothing(new_loop, interrupt):
    interrupt_a_resumed_task(new_loop(), KeyboardInterrupt, interrupt)


def test_25_system_exit_of_a_resumed_task_leaves_the_loop_and_loses_nothing(new_loop):
    interrupt_a_resumed_task(new_loop(), SystemExit, sys.exit)


def interrupt_a_conversion_of_a_stream(loop, kind, error):
    """The conversion is the consumer's own step, so the consumer gets it, and the loop's caller by the task."""
    received = []

    async def start():
        return native.chosen_events(["first", kind, "second"])

    async def consume():
        while len(received) < 2:
            received.append(await anext(stream))

    stream = loop.run_until_complete(start())
    task = loop.create_task(consume())
    with pytest.raises(error):
        loop.run_until_complete(task)
    assert received == ["first"]
    loop.run_until_complete(consume())
    assert received == ["first", "second"]
    close_after_use(loop)


def test_24_keyboard_interrupt_of_an_events_conversion_loses_no_other_event(new_loop):
    interrupt_a_conversion_of_a_stream(new_loop(), "interrupt", KeyboardInterrupt)


def test_25_system_exit_of_an_events_conversion_loses_no_other_event(new_loop):
    interrupt_a_conversion_of_a_stream(new_loop(), "exit", SystemExit)


def test_24_keyboard_interrupt_in_a_callback_leaves_the_loop_and_loses_nothing(new_loop):
    seen = []

    def handler(number):
        seen.append(number)
        if number == 1:
            raise KeyboardInterrupt
        return number

    async def main():
        caller = native.Caller(handler)
        for number in range(3):
            caller.fire_in_thread(number)
        await until(lambda: len(seen) == 3)

    loop = new_loop()
    task = loop.create_task(main())
    interrupts = 0
    while not task.done():
        try:
            loop.run_until_complete(task)
        except KeyboardInterrupt:
            interrupts += 1
    close_after_use(loop)
    assert (interrupts, seen) == (1, [0, 1, 2])


def make_interrupted_loop(loop_type):
    class InterruptedLoop(loop_type):
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

    return InterruptedLoop()


@pytest.mark.parametrize("function", ["get_debug", "call_soon", "call_soon, after it was queued"])
@pytest.mark.parametrize("waiting", ["tasks", "callbacks"])
def test_24_an_interrupt_inside_the_drain_comes_out_and_loses_nothing(loop_type, wakeup, function, waiting):
    loop = make_interrupted_loop(loop_type)
    received = []

    async def start():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        futures = burst.make(16)  # all in one drain, which looks at the clock after so many

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

    loop.run_until_complete(until(lambda: len(received) == 16))
    assert received == list(range(16))
    close_after_use(loop)
    del waiters


def make_loop_with_interrupted_callback(loop_type):
    class InterruptedCallbackLoop(loop_type):
        """As InterruptedLoop, whose one interrupt hits the drain's own call; this one hits that of a done callback."""

        interrupt_next = ""

        def interrupt(self, function, callback):
            if self.interrupt_next == function and getattr(callback, "__name__", "") == "note":
                self.interrupt_next = ""
                raise KeyboardInterrupt

        def call_soon(self, callback, *args, context=None):
            self.interrupt("before", callback)
            handle = super().call_soon(callback, *args, context=context)
            self.interrupt("after", callback)
            return handle

    return InterruptedCallbackLoop()


# Fails if a callback whose call_soon was interrupted is queued twice, or never
@pytest.mark.parametrize("when", ["before", "after"])
def test_24_an_interrupt_while_a_callback_is_queued_comes_out_and_the_callback_runs_once(loop_type, wakeup, when):
    loop = make_loop_with_interrupted_callback(loop_type)
    received = []

    async def start():
        aiobridge.configure(wakeup=wakeup)
        burst = native.Burst()
        futures = burst.make(3)
        for future in futures:

            def note(done):
                received.append(done.result())

            future.add_done_callback(note)
        return burst, futures

    burst, _futures = loop.run_until_complete(start())
    burst.go(1)
    burst.join()
    loop.interrupt_next = when
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()

    loop.run_until_complete(until(lambda: len(received) == 3))
    assert received == [0, 1, 2]
    close_after_use(loop)


# Fails if an interrupt of the question whether the loop is closed is taken for a no
def test_24_an_interrupt_while_a_loop_that_refuses_a_callback_is_asked_comes_out(loop_type, wakeup):
    received = []
    loop = make_refusing_loop(loop_type, ValueError, lambda callback: callback == received.append)

    async def start():
        aiobridge.configure(wakeup=wakeup)
        promise, future = native.make_Promise()
        future.add_done_callback(received.append)
        return promise, future

    promise, future = loop.run_until_complete(start())
    promise.set_from_thread(1)
    loop.refuses = True
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert future.result() == 1
    assert received == []
    close_after_use(loop)


# Fails if an interrupt of a conversion, which has come out of the loop, is logged as never retrieved too
def test_24_an_interrupt_that_came_out_of_the_loop_is_not_reported_again(new_loop):
    contexts = []
    loop = new_loop()
    loop.set_exception_handler(lambda loop, context: contexts.append(context))

    async def start():
        return native.make_ChosenPromise()

    pair = loop.run_until_complete(start())
    pair[0].set("interrupt")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert pair[1].done()
    del pair
    gc.collect()
    assert contexts == []
    close_after_use(loop)
