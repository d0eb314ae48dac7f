"""The kinds of loops that are here, and loops that do less than asyncio's."""

import asyncio
import threading

LOOPS = {"asyncio": asyncio.new_event_loop}
try:
    import uvloop
except ImportError:  # Windows, and free-threaded Pythons
    pass
else:
    LOOPS["uvloop"] = uvloop.new_event_loop


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """As Windows' Proactor loop: no add_reader. (The loop's own pipe uses _add_reader.)"""

    def add_reader(self, fd, callback, *args):
        raise NotImplementedError


class LoopThatDropsNothing(LoopWithoutReaders):
    """Nothing of ours that it could let go of when it is closed: no timer either."""

    def call_later(self, delay, callback, *args, context=None):
        raise NotImplementedError


def make_refusing_loop(loop_type, error, refused):
    """A loop whose call_soon, once `refuses` is set, raises an `error` for each callback that `refused` is true of.

    Asked then whether it is closed, it is interrupted, once. As signal handlers do that, in the main thread only: the
    notifier asks too.

    `error` is a class. An instance would keep its traceback, and so the frames of the test, as long as the loop's class
    lives; and without a GIL Python 3.13 never frees a class that was made after a thread was.
    """

    class RefusingLoop(loop_type):
        refuses = False

        def call_soon(self, callback, *args, context=None):
            if self.refuses and refused(callback):
                raise error("not now")
            return super().call_soon(callback, *args, context=context)

        def is_closed(self):
            if self.refuses and threading.current_thread() is threading.main_thread():
                self.refuses = False
                raise KeyboardInterrupt
            return super().is_closed()

    return RefusingLoop()
