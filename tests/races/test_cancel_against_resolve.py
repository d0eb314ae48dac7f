"""A result, an error, a dropped promise or a native cancel against a cancel, an await and a delivery of Python's."""

import asyncio
import itertools

import pytest
from races import Race, at_random_moments, every_window, steered
from sizes import RACE_PATIENCE


class CancelAgainstResolve(Race):
    variants = tuple(
        itertools.product(("set", "fail", "drop", "cancel"), ("cancel", "cancel task", "bind", "deliver")),
    )

    def prepare(self, variant, draw):
        what, self.how = variant
        self.native = what
        self.cancelled = False
        self.run(self.make(what))
        return what

    async def make(self, what):
        self.task = None
        if self.how == "bind":
            # Where no loop runs.
            self.future = await asyncio.to_thread(self.rival.promise, what == "cancel")
            return
        self.future = self.rival.promise(what == "cancel")
        if self.how != "cancel":
            self.task = asyncio.create_task(self.wait())
            await asyncio.sleep(0)

    async def wait(self):
        return (await self.future).number

    def act(self):
        if self.how == "cancel":
            self.cancelled = self.future.cancel()
        else:
            self.run(getattr(self, self.how.replace(" ", "_"))())

    async def cancel_task(self):
        self.task.cancel()
        await asyncio.wait({self.task})

    async def bind(self):
        self.task = asyncio.create_task(self.wait())
        await asyncio.sleep(0)

    async def deliver(self):
        for _ in range(5):
            await asyncio.sleep(0)

    async def outcome(self):
        try:
            async with asyncio.timeout(20):
                return str(await (self.task or self.wait()))
        except asyncio.CancelledError:
            return "cancelled"
        except Exception as error:
            return type(error).__name__

    def verify(self, came_of_it):
        outcome = self.run(self.outcome())
        results = {
            "set": {"7"},
            "fail": {"RuntimeError"},
            "drop": {"BrokenPromiseError"},
            "cancel": {"cancelled"},
        }[self.native]
        if self.how == "cancel" and self.native != "cancel":
            assert outcome in ({"cancelled"} if self.cancelled else results)
        elif self.how in ("bind", "deliver"):
            assert outcome in results
        else:
            assert outcome in {"cancelled"} | results
        self.rival.drop()
        self.future = self.task = None
        # The hook runs if and only if the native side was cancelled before it completed.
        told = self.times_told()
        if self.native in ("set", "fail"):
            assert came_of_it in (["accepted"], ["closed"])
            assert told == (came_of_it == ["closed"])
            assert not told or outcome == "cancelled"
        elif self.native == "cancel":
            assert told == 1
        else:
            assert told == 0 or (told == 1 and outcome == "cancelled")
        assert not told or self.rival.reason == "cancelled"
        return f"{outcome}, {'told' if told else 'not told'}"


@steered
def test_every_window(new_loop):
    with CancelAgainstResolve(new_loop) as race:
        every_window(race)


@pytest.mark.timeout(RACE_PATIENCE)
def test_at_random_moments(new_loop):
    with CancelAgainstResolve(new_loop) as race:
        at_random_moments(race)
