"""What is measured, and for how long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """How long to measure."""

    rounds: int  # values of each contender
    weighings: int  # values of what is weighed, or rare
    seconds: float  # that a value takes, about
    samples: int  # of a distribution, in each round
    largest: int  # of what grows

    def upto(self, *counts: int) -> list[int]:
        return [count for count in counts if count <= self.largest] or [counts[0]]


TINY = Size(rounds=1, weighings=1, seconds=0, samples=3, largest=100)
SHORT = Size(rounds=5, weighings=1, seconds=0.1, samples=300, largest=100_000)
FULL = Size(rounds=21, weighings=3, seconds=0.3, samples=2_000, largest=1_000_000)


@dataclass(frozen=True)
class Missing:
    """A contender that is not here."""

    why: str


@dataclass(frozen=True)
class Timed:
    """`run(count)` does something `count` times, or a little more often, and returns the seconds for each time."""

    run: Callable[[int], float]
    at_least: int = 1
    at_most: int = 1_000_000_000
    rare: bool = False  # takes long and repeats well


@dataclass(frozen=True)
class Sampled:
    """`run(count)` returns the seconds of each of `count` times."""

    run: Callable[[int], Sequence[float]]


@dataclass(frozen=True)
class Sum:
    """The first one of others, which are measured too, and with it the medians of the rest."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Weighed:
    """`run()` returns bytes."""

    run: Callable[[], float]


Contender = Timed | Sampled | Sum | Weighed | Missing
