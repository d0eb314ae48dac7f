"""aiobridge::gil: the GIL for native threads, and its refusal when Python goes."""

import asyncio

import native
import pytest


async def test_a_native_thread_calls_python_with_the_guard():
    assert await native.call_with_gil(lambda: "called", False) == "called, and without it"


async def test_an_exception_gives_the_gil_back():
    assert await native.call_with_gil(lambda: "never", True) == "thrown with the GIL, and without it"


def test_the_previous_state_comes_back():
    assert native.gil_within_released_gil()
    assert native.gil_within_gil()


WAYS_OF_LEAVING = {
    "return": ("pass", 0, ""),
    "sys.exit": ("sys.exit(3)", 3, ""),
    "exception": ("raise KeyError", 1, "KeyError"),
    "interrupt": ("signal.raise_signal(signal.SIGINT)", -2, "KeyboardInterrupt"),
    "os._exit": ("os._exit(4)", 4, ""),
    "daemon loop": ("threading.Thread(target=asyncio.run, args=(asyncio.sleep(100),), daemon=True).start()", 0, ""),
}


@pytest.mark.parametrize("way", WAYS_OF_LEAVING)
def test_threads_that_take_the_gil_are_refused_on_every_exit_path(run_python, way):
    leave, status, error = WAYS_OF_LEAVING[way]
    script = f"""
import asyncio, os, signal, sys, threading, native
takers = native.Takers.start(8)
while takers.taken < 100:
    native.gil_within_released_gil()
{leave}
"""
    for _ in range(3):
        done = run_python(script)
        assert done.returncode == status
        assert done.stderr.strip().endswith(error)
        assert bool(done.stderr) == bool(error)


def test_it_is_refused_when_python_is_gone(run_python):
    done = run_python("import native; native.ask_after_python()")
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused", "")


def test_the_loop_goes_on_while_another_thread_waits_for_the_gil():
    async def main():
        return await asyncio.gather(
            *(native.call_with_gil(lambda number=number: number, False) for number in range(20))
        )

    assert asyncio.run(main()) == [f"{number}, and without it" for number in range(20)]
