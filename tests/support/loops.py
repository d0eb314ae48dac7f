"""Loops that do less than asyncio's."""

import asyncio


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """As Windows' Proactor loop: no add_reader. (The loop's own pipe uses _add_reader.)"""

    def add_reader(self, fd, callback, *args):
        raise NotImplementedError
