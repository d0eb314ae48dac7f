"""Pushes of every policy against every way in which a stream ends or makes room. Each event has one fate."""

import asyncio
import itertools

import pytest
from races import Race, at_random_moments, every_window, steered
from sizes import RACE_PATIENCE

import aiobridge

TAKEN = ("accepted", "evicted_oldest", "merged")
REFUSED = {
    "refuse": {"full"},
    "drop_newest": {"dropped"},
    "error": {"full"},
    "drop_oldest": set(),
    "conflate": set(),
    "unbounded": set(),
    "block": set(),
}
ENDINGS = (None, aiobridge.BrokenStreamError, aiobridge.StreamOverflow, RuntimeError)


class CloseAgainstPush(Race):
    ways = ("aclose", "drop", "close", "fail stream", "abort", "take", "sleep and close")
    variants = (
        *itertools.product(("push three",), ways, ("refuse", "drop_oldest", "error")),
        *itertools.product(("push",), ("aclose", "close", "take"), ("drop_newest", "conflate", "unbounded")),
        *itertools.product(("drop",), ways, ("refuse",)),
    )
    capacity = 2

    def prepare(self, variant, draw):
        what, self.how, self.policy = variant
        self.before = aiobridge.stats().events
        self.undelivered = self.rival.undelivered
        self.taken = []
        self.closing = None
        self.run(self.make(draw))
        return what

    async def make(self, draw):
        self.stream = self.rival.stream(self.capacity, self.policy)
        self.sleeper = None
        waits = self.how != "sleep and close" and draw.randrange(2)
        self.first = self.rival.act("push") if waits else []
        if self.how == "sleep and close":
            self.sleeper = asyncio.create_task(self.sleep())
            await asyncio.sleep(0)

    async def sleep(self):
        async for event in self.stream:
            self.taken.append(event.number)

    def act(self):
        self.run(getattr(self, self.how.replace(" ", "_"), self.end)())

    async def aclose(self):
        # Not waited for: the hook, which may be the other side's to wake.
        self.closing = self.stream.aclose()

    async def drop(self):
        self.stream = None

    async def end(self):
        self.rival.act(self.how)

    async def take(self):
        while self.stream.qsize():
            self.taken.append(self.stream.get_nowait().number)

    async def sleep_and_close(self):
        await asyncio.sleep(0)
        self.rival.act("close")

    async def finish(self):
        self.rival.drop()  # so it ends
        if self.closing:
            await asyncio.wait_for(self.closing, 20)
        if self.sleeper:
            return (await asyncio.wait_for(asyncio.gather(self.sleeper, return_exceptions=True), 20))[0]
        try:
            await asyncio.wait_for(self.sleep() if self.stream else asyncio.sleep(0), 20)
        except Exception as error:
            return error

    def verify(self, came_of_it):
        error = self.run(self.finish())
        assert error is None or type(error) in ENDINGS, error
        self.stream = self.sleeper = self.closing = None
        told = self.times_told()
        # The consumer's end is told of by the hook too; whoever ends it, once.
        assert told == 1
        self.until(lambda: not self.live()["streams"])
        fates = self.made_before() + came_of_it
        after = aiobridge.stats().events
        figures = {name: getattr(after, name) - getattr(self.before, name) for name in aiobridge.StreamStats.__slots__}
        accepted = sum(fate in TAKEN for fate in fates)
        assert figures["accepted"] == accepted
        assert figures["evicted"] == fates.count("evicted_oldest")
        assert figures["merged"] == fates.count("merged")
        assert figures["pending"] == 0
        assert figures["delivered"] == len(self.taken)
        assert accepted == sum(figures[name] for name in ("delivered", "evicted", "merged", "undelivered"))
        assert self.rival.undelivered - self.undelivered == figures["undelivered"]
        assert self.taken == sorted(set(self.taken))
        refused = [fate for fate in came_of_it if fate not in TAKEN]
        assert set(refused) <= {"closed"} | self.refusals()
        # After the first refusal because it is closed, all are.
        if "closed" in came_of_it:
            assert set(came_of_it[came_of_it.index("closed") :]) == {"closed"}
        return f"{','.join(came_of_it)} {figures['delivered']} delivered, {figures['undelivered']} undelivered"

    def made_before(self):
        return self.first

    def refusals(self):
        return REFUSED[self.policy]


class CloseAgainstBlockedPush(CloseAgainstPush):
    """The buffer is full, so that the push waits: for room or the end, which then come from the other side alone."""

    ways = ("aclose", "drop", "close", "fail stream", "abort", "take")
    variants = tuple(itertools.product(("push",), ways, ("block",)))
    capacity = 1
    patience = 0.02
    open_ended = False

    async def make(self, draw):
        self.stream = self.rival.stream(1, "block")
        self.sleeper = None
        # On another thread: the loop's own would wait for itself.
        self.first = await asyncio.to_thread(self.rival.act, "push")


@steered
@pytest.mark.timeout(RACE_PATIENCE)
@pytest.mark.parametrize("race_type", [CloseAgainstPush, CloseAgainstBlockedPush])
def test_every_window(new_loop, race_type):
    with race_type(new_loop) as race:
        every_window(race)


@pytest.mark.timeout(RACE_PATIENCE)
@pytest.mark.parametrize("race_type", [CloseAgainstPush, CloseAgainstBlockedPush])
def test_at_random_moments(new_loop, race_type):
    with race_type(new_loop) as race:
        at_random_moments(race)
