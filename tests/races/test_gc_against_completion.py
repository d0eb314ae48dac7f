"""Futures and streams that only a cycle refers to, and tasks that only their Future refers to: collected or kept."""

import asyncio
import gc
import itertools
import timeit
import weakref

import native
import pytest
from races import Race, at_random_moments, every_window, steered
from sizes import RACE_PATIENCE

import aiobridge


class Box:
    """Refers to itself."""

    def __init__(self, content):
        self.content = content
        self.box = self


class CollectAgainstCompletion(Race):
    variants = (
        *itertools.product(("set", "fail", "drop"), ("future", "unbound future", "task", "waited for")),
        *itertools.product(("push", "push three", "drop"), ("stream", "iterated stream")),
    )

    def __init__(self, new_loop):
        super().__init__(new_loop)
        # Without a GIL each collection goes through all there is. What pytest has made is a multiple of the race's.
        gc.collect()
        gc.freeze()
        # So that the native side is sometimes later than a collection.
        turns = 1_000_000
        spin, collection = (min(timeit.repeat(act, number=1)) for act in (lambda: native.spin(turns), self.collect))
        self.turns = max(self.turns, int(2 * turns * collection / spin))

    def __exit__(self, *failed):
        gc.unfreeze()
        super().__exit__(*failed)

    @staticmethod
    def collect():
        gc.collect(0)

    def prepare(self, variant, draw):
        what, self.how = variant
        self.what = what
        self.complaints = []
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context["message"]))
        self.outcome = None
        self.called = []
        self.before = aiobridge.stats().events
        self.collect()  # so that what comes is the youngest
        self.run(self.make())
        return what

    async def make(self):
        match self.how:
            case "future":
                self.box = Box(self.rival.promise())
            case "unbound future":
                self.box = Box(await asyncio.to_thread(self.rival.promise))
            case "task":
                # What the future calls refers to the box, in which it is.
                self.box = Box(self.rival.promise())
                self.box.content.add_done_callback(
                    lambda future, box=self.box, called=self.called: called.append(future)
                )
            case "waited for":
                future = self.rival.promise()
                self.box = Box(asyncio.create_task(self.wait(future)))
                await asyncio.sleep(0)
            case "stream":
                self.box = Box(self.rival.stream(2, "drop_oldest"))
            case "iterated stream":
                self.box = Box(self.rival.stream(2, "drop_oldest"))
                self.box.iterator = anext(self.box.content).__await__()
                next(self.box.iterator)
        self.alive = weakref.ref(self.box)

    async def wait(self, future):
        try:
            self.outcome = str((await future).number)
        except Exception as error:
            self.outcome = type(error).__name__

    def act(self):
        self.box = None
        self.collect()

    def verify(self, came_of_it):
        self.rival.drop()
        told = self.times_told()
        if self.how == "waited for":
            self.until(lambda: self.outcome)
            assert self.outcome == {"set": "7", "fail": "RuntimeError", "drop": "BrokenPromiseError"}[self.what]
            assert not told
        elif self.how in ("stream", "iterated stream"):
            assert told == 1
            self.until(lambda: not self.live()["streams"])
            self.verify_events(came_of_it)
        elif came_of_it:
            # A future with a callback lives until it is done.
            assert came_of_it == (["closed"] if told else ["accepted"])
        if self.how == "task":
            self.until(lambda: self.called)
            assert self.called
            self.called.clear()
        if self.alive():
            gc.collect(1)  # it lived until it was done
        self.until(lambda: not self.alive())
        assert not self.alive()
        assert told == 0 or self.rival.reason in ("abandoned", "finished")
        # An error that nobody asked for.
        assert len(self.complaints) <= (self.what in ("fail", "drop"))
        return f"{','.join(came_of_it)} {self.outcome} {'told ' + self.rival.reason if told else 'not told'}"

    def verify_events(self, came_of_it):
        after = aiobridge.stats().events
        figures = {name: getattr(after, name) - getattr(self.before, name) for name in after.__slots__}
        assert figures["accepted"] == sum(fate in ("accepted", "evicted_oldest") for fate in came_of_it)
        assert figures["accepted"] == figures["evicted"] + figures["undelivered"]
        assert figures["closed"] == came_of_it.count("closed")


@steered
@pytest.mark.timeout(RACE_PATIENCE)
def test_every_window(new_loop):
    with CollectAgainstCompletion(new_loop) as race:
        every_window(race)


@pytest.mark.timeout(RACE_PATIENCE)
def test_at_random_moments(new_loop):
    with CollectAgainstCompletion(new_loop) as race:
        at_random_moments(race)
