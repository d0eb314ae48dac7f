"""Timeouts of asyncio's, of batches and of blocked pushes, that end as a result, an event or room comes."""

import asyncio
import itertools

import pytest
from races import Race, at_random_moments, every_window, steered
from sizes import RACE_PATIENCE


class TimeoutAgainstDelivery(Race):
    variants = (
        *itertools.product(("set", "fail", "drop"), ("result",)),
        *itertools.product(("push", "push three"), ("next", "get", "batch", "array", "delayed batch")),
    )

    def prepare(self, variant, draw):
        what, self.how = variant
        # In every window: as soon as can be.
        self.seconds = 0 if self.windows else draw.choice((0, 0.0005, 0.001))
        if self.seconds and what != "drop":
            self.turns = 1_500_000
        self.run(self.make())
        return what

    async def make(self):
        self.future = self.stream = None
        self.events = []
        if self.how == "result":
            self.future = self.rival.promise()
        else:
            self.stream = self.rival.stream(8, "refuse")

    def act(self):
        self.run(self.wait())

    async def wait(self):
        self.outcome = "in time"
        try:
            async with asyncio.timeout(None if self.how == "delayed batch" and not self.windows else self.seconds):
                await self.ask()
        except TimeoutError:
            self.outcome = "too late"
        except Exception as error:
            self.outcome = type(error).__name__

    async def ask(self):
        match self.how:
            case "result":
                self.events.append((await self.future).number)
            case "next":
                self.events.append((await anext(self.stream)).number)
            case "get":
                self.events.append((await self.stream.get()).number)
            case "batch" | "array":
                self.events += [event.number for event in await anext(self.stream.batches(2))]
            case "delayed batch":
                batches = self.stream.batches(2, max_delay=self.seconds)
                self.events += [event.number for event in await anext(batches)]

    async def rest(self):
        async for event in self.stream:
            self.events.append(event.number)

    def verify(self, came_of_it):
        if self.how == "result":
            return self.verify_result(came_of_it)
        self.rival.drop()
        self.run(asyncio.wait_for(self.rest(), 20))
        # Whatever timed out, no event is lost, or comes twice.
        assert came_of_it == ["accepted"] * len(came_of_it)
        assert self.events == list(range(len(came_of_it)))
        assert self.stream.stats().pending == 0
        self.stream = None
        assert self.times_told() == 1
        return self.outcome

    def verify_result(self, came_of_it):
        self.rival.drop()
        self.future = None
        told = self.times_told()
        assert self.outcome in ("in time", "too late", "RuntimeError", "BrokenPromiseError")
        assert (self.events == [7]) == (self.outcome == "in time")
        if came_of_it:
            assert came_of_it == (["closed"] if told else ["accepted"])
        assert told == 0 or self.outcome == "too late"
        return self.outcome


class BlockedPushAgainstRoom(Race):
    """A push that waits for room, for so long; and room comes."""

    variants = (("push", "take"),)
    patience = 0.02

    def prepare(self, variant, draw):
        self.seconds = 0 if self.windows else draw.choice((0, 0.00005, 0.0001, 0.0002))
        self.run(self.make())
        return variant[0]

    async def make(self):
        self.stream = self.rival.stream(1, "block", self.seconds)
        assert self.rival.act("push") == ["accepted"]
        self.events = []

    def act(self):
        self.events.append(self.stream.get_nowait().number)

    def verify(self, came_of_it):
        assert came_of_it in (["accepted"], ["timed_out"])
        self.rival.drop()

        async def rest():
            async for event in self.stream:
                self.events.append(event.number)

        self.run(rest())
        assert self.events == ([0, 1] if came_of_it == ["accepted"] else [0])
        stats = self.stream.stats()
        assert (stats.accepted, stats.delivered, stats.timed_out) == (
            len(self.events),
            len(self.events),
            came_of_it.count("timed_out"),
        )
        self.stream = None
        assert self.times_told() == 1
        return came_of_it[0]


@steered
@pytest.mark.timeout(RACE_PATIENCE)
@pytest.mark.parametrize("race_type", [TimeoutAgainstDelivery, BlockedPushAgainstRoom])
def test_every_window(new_loop, race_type):
    with race_type(new_loop) as race:
        race.windows = 1
        every_window(race)


@pytest.mark.timeout(RACE_PATIENCE)
@pytest.mark.parametrize("race_type", [TimeoutAgainstDelivery, BlockedPushAgainstRoom])
def test_at_random_moments(new_loop, race_type):
    with race_type(new_loop) as race:
        at_random_moments(race)
