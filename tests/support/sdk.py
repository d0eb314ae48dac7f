"""A library with a callback API, as an SDK has it."""

import asyncio

import native


class Sdk:
    """A library that keeps its callbacks until the test says what happens, and remembers what it was told."""

    def __init__(self):
        self.calls = []
        self.callbacks = []
        self.told = []

    def read(self, fd, size, callback):
        """Read later."""
        self.calls.append((fd, size))
        self.callbacks.append(callback)

    def open(self, path, callback):
        self.read(path, None, callback)
        return f"handle of {path}"

    def ask(self, question, *, on_done, on_error=None):
        self.calls.append(question)
        self.callbacks.append(on_done)
        self.callbacks.append(on_error)

    def abort(self, *arguments, **keywords):
        self.told.append((arguments, keywords, native.this_thread_name()))

    async def fire(self, *arguments, callback=0):
        """Call back on a thread of the library's."""
        await asyncio.to_thread(self.callbacks[callback], *arguments)
