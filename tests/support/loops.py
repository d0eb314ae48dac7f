"""Loops that do less than asyncio's."""

import asyncio


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """As Windows' Proactor loop: no add_reader. (The loop's own pipe uses _add_reader.)"""

    def add_reader(self, fd, callback, *args):
        raise NotImplementedError


class LoopThatDropsNothing(LoopWithoutReaders):
    """Nothing of ours that it could let go of when it is closed: no timer either."""

    def call_later(self, delay, callback, *args, context=None):
        raise NotImplementedError
