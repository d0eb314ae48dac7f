"""Measures contenders in turns, in one run, so that whatever disturbs the machine disturbs them all. pyperf has the
statistics."""

import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyperf
from contenders import Contender, Missing, Sampled, Size, Sum, Timed, Weighed

# In place of a value that is not positive (memory that was had already), which pyperf does not take.
NOTHING = 1e-12


@dataclass
class Case:
    """One question under one set of circumstances."""

    question: str  # B1
    title: str
    contenders: dict[str, Contender]
    reference: str  # the contender that others are compared with
    results: dict[str, pyperf.Benchmark] = field(default_factory=dict)

    def is_distribution(self, name: str) -> bool:
        match self.contenders[name]:
            case Sum(parts):
                return self.is_distribution(parts[0])
            case contender:
                return isinstance(contender, Sampled)

    def missing(self) -> dict[str, str]:
        return {name: each.why for name, each in self.contenders.items() if isinstance(each, Missing)}

    def ratio(self, name: str) -> float | None:
        """How many times as much as the reference; none where either is nothing."""
        one, other = (self.results[each].median() for each in (name, self.reference))
        return one / other if min(one, other) > NOTHING else None


def measure(case: Case, size: Size) -> None:
    present = {name: each for name, each in case.contenders.items() if not isinstance(each, Missing)}
    counts = {name: calibrated(each, size) for name, each in present.items()}
    values: dict[str, list[float]] = {name: [] for name in present}
    # In an order that says nothing about who came before, and is the same in each run.
    shuffled = random.Random(case.title)
    for round_ in range(size.rounds):
        for name in shuffled.sample(list(present), len(present)):
            gc.collect()  # what one has left is not the next one's to collect
            match present[name]:
                case Timed(run, rare=rare) if round_ < size.weighings or not rare:
                    values[name].append(run(counts[name]))
                case Sampled(run):
                    values[name] += run(counts[name])
                case Weighed(run) if round_ < size.weighings:
                    values[name].append(run())
    for name, contender in present.items():
        if isinstance(contender, Sum):
            first, *others = (values[part] for part in contender.parts)
            values[name] = [value + sum(map(statistics.median, others)) for value in first]
    for name, contender in present.items():
        metadata = {
            "name": f"{case.question}: {case.title}: {name}",
            "unit": "byte" if isinstance(contender, Weighed) else "second",
            "loops": counts[name] if isinstance(contender, Timed) else 1,
        }
        positive = [max(value, NOTHING) for value in values[name]]
        case.results[name] = pyperf.Benchmark([pyperf.Run(positive, metadata=metadata, collect_metadata=False)])


def calibrated(contender: Contender, size: Size) -> int:
    """How often, so that it takes as long as it should; and a first time, which does not count."""
    match contender:
        case Sampled(run):
            few = min(size.samples, 10)
            started = time.perf_counter()
            run(few)
            each = (time.perf_counter() - started) / few
            return max(few, min(size.samples, int(20 * size.seconds / each)))
        case Timed(run, at_least, at_most):
            for doubled in itertools.count():
                count = min(at_least << doubled, at_most)
                took = run(count) * count
                if took >= size.seconds or count == at_most:
                    return count
    return 1


def timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def all_of(modules: Sequence[object], size: Size) -> Iterator[Case]:
    for module in modules:
        yield from module.cases(size)  # type: ignore[attr-defined]
