"""Two sides that do one thing each at the same moment: Python on a loop's thread, and native code on another one.

Ordinary builds of the core run races at random moments (`at_random_moments`). A build with AIOBRIDGE_TEST_PAUSES can
also stop a thread at each step at which threads meet (ext/core/pause.h): then every window is visited, with the whole
of the other side in it.
"""

import asyncio
import functools
import gc
import itertools
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Self

import native
import pytest
from sizes import RACE_ROUNDS

import aiobridge
from aiobridge import _core

steered = pytest.mark.skipif(
    not hasattr(_core, "_hold"), reason="threads cannot be stopped in this build of the core (AIOBRIDGE_TEST_PAUSES)"
)
PATIENCE = 20.0  # seconds: a thread is held for longer only if something hangs
LIVE = ("operations", "streams", "callbacks", "hooks")


class Race:
    """One kind of race. A subclass says what the two sides do, and which outcomes are allowed.

    `variants` are its kinds; a round is prepare, act (while the rival does `native`), verify.
    """

    variants: tuple[tuple[str, ...], ...]
    # Seconds after which a held thread goes on, because the other side waits for it: less where that is meant.
    patience = PATIENCE
    # Whether either side can be first; if not, the native one waits for Python's.
    open_ended = True

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.new_loop = new_loop
        self.loop = new_loop()
        self.rival = native.Rival()
        self.outcomes: Counter[str] = Counter()
        self.turns = 150_000  # of a spin: the most that one side is late in a random round
        self.made = self.told = 0  # hooks
        self.windows = self.missed = 0
        self.run(asyncio.sleep(0))
        self.until(lambda: not any(self.live().values()))  # what earlier tests have left on its way

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def prepare(self, variant: tuple[str, ...], draw: random.Random) -> str:
        """Makes the round's objects; returns what the rival will do."""
        raise NotImplementedError

    def act(self) -> None:
        """Python's side."""
        raise NotImplementedError

    def verify(self, came_of_it: list[str]) -> str:
        """The outcome of the round, which was an allowed one."""
        raise NotImplementedError

    def live(self) -> dict[str, int]:
        stats = aiobridge.stats()
        return {name: getattr(stats, name) for name in LIVE} | {"payloads": native.Tracked.live}

    def settle(self) -> None:
        """After rounds: everything is freed."""
        self.rival.drop()
        self.until(lambda: not any(self.live().values()))
        assert not any(self.live().values()), self.live()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        for turn in itertools.count(1):
            if condition() or time.monotonic() > deadline:
                return
            self.run(asyncio.sleep(0))
            if turn % 200 == 0:
                gc.collect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if not failed:
            self.settle()
        self.rival.drop()
        if self.loop:
            self.loop.close()

    def times_told(self) -> int:
        """How often the round's hook has run, of which there is one."""
        self.made += 1
        self.until(lambda: self.rival.hooks_destroyed == self.made)
        assert self.rival.hooks_destroyed == self.made
        told = self.rival.hooks_run - self.told
        self.told += told
        return told

    def round(self, variant: tuple[str, ...], draw: random.Random, both: Callable[[str], list[str]]) -> None:
        """`both` runs both sides, and returns what came of the rival's act."""
        what = self.prepare(variant, draw)
        outcome = self.verify(both(what))
        self.outcomes[f"{' '.join(variant)}: {outcome}"] += 1


def steps_of(act: Callable[[], object]) -> list[tuple[str, int]]:
    """The steps that this thread passes, each with how often it was passed before, from 1."""
    seen: Counter[str] = Counter()
    steps = []
    _core._trace()
    try:
        act()
    finally:
        for name in _core._traced():
            seen[name] += 1
            steps.append((name, seen[name]))
    return steps


Steps = list[tuple[str, int]]


def all_windows(race: Race, held: Callable[[Race, str, Steps, int], list[str]]) -> None:
    for number, variant in enumerate(race.variants):
        steps: Steps = []
        window = -1  # a round in which the steps are found, and no threads meet
        while window < len(steps):
            try:
                race.round(variant, random.Random(number), functools.partial(held, race, steps=steps, window=window))
                race.settle()
                assert race.patience < PATIENCE or not _core._lost_patience(), "one side waits for the other"
            except BaseException as error:
                error.add_note(f"{variant}, {held.__name__} at {steps[window] if window >= 0 else 'no step'}")
                raise
            window += 1


def hold_native_side(race: Race, what: str, steps: Steps, window: int) -> list[str]:
    """The rival's act on a thread that is held, and Python's side meanwhile."""
    came_of_it: list[str] = []
    armed = threading.Event()

    def act() -> None:
        if window < 0:
            steps.extend(steps_of(lambda: came_of_it.extend(race.rival.act(what))))
            return
        _core._hold(*steps[window], True, race.patience)
        armed.set()
        came_of_it.extend(race.rival.act(what))
        _core._pass_freely()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        if window < 0:
            thread.join(race.patience)  # or it waits for Python's side
        else:
            armed.wait()
            race.windows += 1
            race.missed += not _core._wait_held(race.patience)
        race.act()
    finally:
        if window >= 0:
            _core._release()
        thread.join()
    return came_of_it


def hold_python_side(race: Race, what: str, steps: Steps, window: int) -> list[str]:
    """The loop's thread is held, with the GIL, and the rival acts meanwhile."""
    if window < 0:
        steps.extend(steps_of(race.act))
        race.rival.start(what)
        return race.rival.join()
    _core._hold(*steps[window], True, race.patience)
    race.rival.start_when_held(_core._held, what)
    try:
        race.act()
    finally:
        _core._pass_freely()
    return race.rival.join()


def every_window(race: Race) -> None:
    """Each side is held at each of its steps, while the other one does all that it does."""
    _core._lost_patience()  # an earlier test's
    all_windows(race, hold_native_side)
    all_windows(race, hold_python_side)
    # A step may be passed at one time and not at another, as when a wake is on its way already.
    assert race.windows > 3 * len(race.variants), "so few steps were found that something is wrong"
    assert race.missed < race.windows / 5 or race.patience < PATIENCE


def seeds() -> Iterator[tuple[int, random.Random]]:
    """A seed for each round: the n-th is the first one plus n, and AIOBRIDGE_RACE_SEED is the first one."""
    first = int(os.environ.get("AIOBRIDGE_RACE_SEED", "0")) or random.SystemRandom().getrandbits(48)
    for seed in range(first, first + RACE_ROUNDS):
        yield seed, random.Random(seed)


def at_random_moments(race: Race) -> None:
    """Many rounds, in which either side is a little late; and where threads can be stopped, each step wavers."""
    shake = getattr(_core, "_shake", lambda seed: None)
    gc.disable()
    try:
        for number, (seed, draw) in enumerate(seeds(), 1):
            shake(seed)
            try:
                race.round(draw.choice(race.variants), draw, functools.partial(begin_both, race, draw=draw))
                if number % 200 == 0:
                    race.settle()
            except BaseException as error:
                error.add_note(f"AIOBRIDGE_RACE_SEED={seed} begins with this round")
                raise
    finally:
        shake(0)
        gc.enable()
    # Else the rounds have tested less than they say.
    enough = 10 * len(race.variants) <= RACE_ROUNDS
    assert len(race.outcomes) > len(race.variants) or not (race.open_ended and enough), race.outcomes


def begin_both(race: Race, what: str, draw: random.Random) -> list[str]:
    late = draw.randrange(-race.turns, race.turns)
    chance = draw.random()
    # On a machine that has much else to do, a thread that was woken may always be late: each side is sometimes first.
    if chance < 0.01 and race.open_ended:
        race.rival.start(what)
        came_of_it = race.rival.join()
        race.act()
        return came_of_it
    if chance < 0.03:
        late *= 50
    race.rival.start(what, max(late, 0))
    native.spin(max(-late, 0))
    race.act()
    return race.rival.join()
