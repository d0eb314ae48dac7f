"""Results, events and calls that are posted to a loop while it is closed: each is refused or taken, and then freed."""

import asyncio

import pytest
from races import PATIENCE, Race, at_random_moments, every_window, steered
from sizes import RACE_PATIENCE

import aiobridge
from aiobridge import _core


class CloseLoopAgainstPost(Race):
    variants = tuple((what, "close the loop") for what in ("set", "fail", "drop", "push", "push three", "call"))

    def prepare(self, variant, draw):
        self.what = variant[0]
        if self.loop:
            self.loop.close()
        self.loop = self.new_loop()
        self.complaints = []
        self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
        self.future = self.stream = self.waiting = None
        self.run(self.make(variant[0]))
        return variant[0]

    async def make(self, what):
        if what in ("set", "fail") or (what == "drop"):
            self.future = self.rival.promise()
        elif what in ("call", "ask"):
            self.rival.take(lambda number: number)
        else:
            # A consumer that sleeps, without a task, which the loop's end would leave pending.
            self.stream = self.rival.stream(2, "drop_oldest")
            self.waiting = anext(self.stream).__await__()
            next(self.waiting)

    def act(self):
        self.loop.close()

    def deliver_one(self):
        self.prepare(("set",), None)
        self.rival.act("set")
        number = self.run(self.wait()).number
        self.future = None
        self.settle()
        self.made += 1
        return number

    async def wait(self):
        return await self.future

    def verify(self, came_of_it):
        if self.future:
            assert self.future.done()
            assert isinstance(self.future.exception(), aiobridge.ClosedError)
        if self.stream:
            assert self.stream.closed
            stats = self.stream.stats()
            assert stats.pending == 0
            assert stats.accepted == stats.evicted + stats.undelivered
            with pytest.raises((StopIteration, StopAsyncIteration, aiobridge.ClosedError)):
                next(self.waiting)
        hook = self.future or self.stream
        self.future = self.stream = self.waiting = self.loop = None
        self.rival.drop()
        if hook:
            del hook
            told = self.times_told()
            assert told == (came_of_it != ["accepted"] if self.what in ("set", "fail") else 1) or self.what == "drop"
        if self.what == "ask":
            assert came_of_it in (["refused", "loop_closed"], ["refused", "open"])
        else:
            assert set(came_of_it) <= {"accepted", "evicted_oldest", "closed"}
        assert not self.complaints
        return ",".join(came_of_it)

    def live(self):
        return super().live() | {"loops": aiobridge.stats().loops}

    def until(self, condition):
        # On a loop that is none of aiobridge's: those are counted.
        if self.loop:
            self.loop.close()
        self.loop = asyncio.new_event_loop()
        super().until(condition)
        self.loop.close()
        self.loop = None


class CloseLoopAgainstAsk(CloseLoopAgainstPost):
    """Who waits for the result of a call waits until the loop is closed."""

    variants = (("ask", "close the loop"),)
    patience = 0.02
    open_ended = False


@steered
@pytest.mark.timeout(RACE_PATIENCE)
@pytest.mark.parametrize("race_type", [CloseLoopAgainstPost, CloseLoopAgainstAsk])
def test_every_window(new_loop, race_type):
    with race_type(new_loop) as race:
        every_window(race)


@steered
@pytest.mark.timeout(RACE_PATIENCE)
def test_while_the_notifier_is_on_its_way(new_loop, wakeup):
    if wakeup != "call_soon":
        pytest.skip("no thread is between a post and the loop")
    with CloseLoopAgainstPost(new_loop) as race:
        assert race.deliver_one() == 7
        # Those at which it does not hold the GIL, which the loop's end needs.
        steps = [name for name in _core._pauses() if name.startswith("notifier.") or name == "gate.leave"]
        assert len(steps) > 4
        for variant in race.variants:
            for step in steps:

                def both(what, step=step):
                    _core._hold(step, 1, False, PATIENCE)
                    came_of_it = race.rival.act(what)
                    assert _core._wait_held(PATIENCE)
                    race.act()
                    _core._release()
                    return came_of_it

                race.round(variant, None, both)
                race.settle()


@pytest.mark.timeout(RACE_PATIENCE)
@pytest.mark.parametrize("race_type", [CloseLoopAgainstPost, CloseLoopAgainstAsk])
def test_at_random_moments(new_loop, race_type):
    with race_type(new_loop) as race:
        at_random_moments(race)
