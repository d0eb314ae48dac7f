"""The Python surface, used by force: no crash, no hang, no exception that is not documented, and nothing left.

Acts are numbers, so that hypothesis can shrink them and hostile objects can make up their own. Every method and
attribute of every public type is found by reflection and called with anything at all: on the loop, without one, in
another thread, in another loop's thread, in hooks, in finalizers and from inside of comparisons.

`AIOBRIDGE_FUZZ_SECONDS` lets it go on for so long with random seeds, each in a process of its own;
`python test_python_surface.py SEED` replays one, and prints what it does.
"""

import faulthandler
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent.parent / "support")]

from hostile import Hostilities
from loops import LOOPS

numbers = st.integers(0, 1999)
acts = st.lists(st.tuples(*[numbers] * 5), min_size=1, max_size=5)
EXAMPLES, STEPS = 60, 25


class Surface(RuleBasedStateMachine):
    """The rules; what they do is in hostile.py."""

    verbose = False

    def __init__(self):
        super().__init__()
        self.hostilities = Hostilities(print_acts=self.verbose)

    @initialize(kind=st.sampled_from(sorted(LOOPS)), wakeup=st.sampled_from(["call_soon", "fd"]), acts=acts)
    def start(self, kind, wakeup, acts):
        self.hostilities.start(kind, wakeup)
        self.hostilities.on_the_loop([(0, *[1] * 4), (1, *[1] * 4), *acts])

    @rule(acts=acts)
    def on_the_loop(self, acts):
        self.hostilities.on_the_loop(acts)

    @rule(acts=acts)
    def in_a_task(self, acts):
        self.hostilities.in_a_task(acts)

    @rule(acts=acts)
    def without_a_loop(self, acts):
        self.hostilities.perform_all(acts)

    @rule(acts=acts)
    def in_a_thread(self, acts):
        self.hostilities.in_a_thread(acts)

    @rule(acts=acts)
    def on_another_loop(self, acts):
        self.hostilities.on_another_loop(acts)

    @rule(turns=st.integers(1, 3))
    def turn(self, turns):
        self.hostilities.turn(turns)

    @rule()
    def close_the_loop(self):
        self.hostilities.close_the_loop()

    @invariant()
    def the_figures_agree(self):
        self.hostilities.check()

    def teardown(self):
        self.hostilities.end()


def run(examples, **options):
    run_state_machine_as_test(
        Surface,
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


def test_nothing_breaks():
    run(EXAMPLES, derandomize=True)


@pytest.mark.skipif("AIOBRIDGE_FUZZ_SECONDS" not in os.environ, reason="AIOBRIDGE_FUZZ_SECONDS asks for it")
@pytest.mark.timeout(0)
def test_nothing_breaks_for_long():
    """Child processes, because a crash or a hang ends one."""
    faulthandler.cancel_dump_traceback_later()  # pytest's
    end = time.monotonic() + float(os.environ["AIOBRIDGE_FUZZ_SECONDS"])
    failed = []
    rounds = 0
    while time.monotonic() < end:
        seed = random.SystemRandom().randrange(1 << 32)
        command = [sys.executable, "-P", __file__, str(seed)]
        done = subprocess.run([*command, "quietly"], capture_output=True, text=True, check=False)
        rounds += 1
        if done.returncode != 0:
            failed.append(seed)
            print(f"\n{' '.join(command)}  # fails with {done.returncode}:\n{done.stdout}\n{done.stderr[-4000:]}")
    print(f"\n{rounds} rounds of {EXAMPLES} examples, {len(failed)} failed")
    assert not failed


if __name__ == "__main__":
    Surface.verbose = len(sys.argv) < 3
    hypothesis.seed(int(sys.argv[1]))(Surface)
    faulthandler.dump_traceback_later(120, exit=True)
    # A failing example is printed as it is: shrinking would take longer than the next seed, and a crash cannot shrink.
    run(EXAMPLES, phases=[Phase.generate])
