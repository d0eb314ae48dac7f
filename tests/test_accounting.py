"""Every policy, any order of pushes, takes, cancels and ends, against a model: after every step the figures agree."""

import asyncio

import native
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import aiobridge

POLICIES = ["refuse", "block", "drop_oldest", "drop_newest", "conflate", "error", "unbounded"]
TAKEN = ("accepted", "evicted_oldest", "merged")


class StreamMachine(RuleBasedStateMachine):
    """One loop, run step by step; `waiting` is a task that waits for the next event or batch."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # Woken by descriptor the loop turns in the same order each time, which a replay needs.
        self.turn(lambda: aiobridge.configure(wakeup="fd"))
        self.waiting = None

    def teardown(self):
        if self.waiting:
            self.waiting.cancel()
        self.turn(self.stream.aclose)
        self.loop.close()

    def turn(self, function, *args):
        async def call():
            result = function(*args)
            return await result if asyncio.isfuture(result) else result

        return self.loop.run_until_complete(call())

    @initialize(policy=st.sampled_from(POLICIES), capacity=st.integers(1, 5))
    def make(self, policy, capacity):
        self.policy, self.capacity = policy, capacity
        self.buffer, self.undelivered = [], []
        self.reason, self.ending = "open", None
        self.left = False
        self.counts = dict.fromkeys(aiobridge.StreamStats.__dataclass_fields__, 0)
        self.writer, self.stream = self.turn(lambda: native.make_stream(capacity=capacity, overflow=policy, timeout=0))
        self.writers = [self.writer]
        self.next = 0

    # The producers' side.

    def expected_fate(self, number):
        if self.reason != "open":
            return "closed"
        if len(self.buffer) < self.capacity or self.policy == "unbounded":
            self.buffer.append(number)
            return "accepted"
        match self.policy:
            case "drop_oldest":
                self.buffer = [*self.buffer[1:], number]
                return "evicted_oldest"
            case "drop_newest":
                return "dropped"
            case "conflate":
                self.buffer[-1] = number
                return "merged"
            case "block":
                return "timed_out"
            case "error":
                self.end("failed", aiobridge.StreamOverflow)
        return "full"

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 10), count=st.integers(1, 4))
    def push(self, which, count):
        for _ in range(count):
            fate = self.expected_fate(self.next)
            assert self.writers[which % len(self.writers)].push_in_thread(self.next) == fate
            self.next += 1
            self.count(fate)

    def count(self, fate):
        if fate in TAKEN:
            self.counts["accepted"] += 1
            self.counts["evicted"] += fate == "evicted_oldest"
            self.counts["merged"] += fate == "merged"
        else:
            self.counts[fate] += 1

    @precondition(lambda self: self.writers)
    @rule(which=st.integers(0, 10), count=st.integers(0, 8))
    def push_many(self, which, count):
        """As a push of one after the other, until one is not taken."""
        taken, last = 0, "accepted"
        while taken < count:
            last = self.expected_fate(self.next + taken)
            self.count(last)
            if last not in TAKEN:
                break
            taken += 1
        assert self.writers[which % len(self.writers)].push_many(self.next, count) == (taken, last)
        self.next += count

    def end(self, reason, ending):
        if self.reason == "open":
            self.reason, self.ending = reason, ending
            return True
        return False

    @precondition(lambda self: self.writers)
    @rule(how=st.sampled_from(["close", "fail", "abort"]))
    def close(self, how):
        if how == "close":
            assert self.writers[0].close() == self.end("finished", None)
        elif how == "fail":
            assert self.writers[0].fail("failed") == self.end("failed", RuntimeError)
        else:
            ended = self.end("failed", aiobridge.BrokenStreamError)
            assert self.writers[0].abort() == ended
            if ended:
                self.abandon()

    @precondition(lambda self: self.writers)
    @rule()
    def copy_writer(self):
        self.writers.append(self.writers[0].copy())

    @precondition(lambda self: self.writers)
    @rule(in_unwinding=st.booleans())
    def drop_writer(self, in_unwinding):
        writer = self.writers.pop()
        if in_unwinding:
            writer.drop_in_unwinding()
        else:
            writer.drop()
        if not self.writers:
            self.end(*(("failed", aiobridge.BrokenStreamError) if in_unwinding else ("finished", None)))

    def abandon(self):
        self.counts["undelivered"] += len(self.buffer)
        self.buffer = []

    # The consumer's side.

    def expected_end(self):
        """What a consumer that finds no event meets: an exception type, or None if it has to wait."""
        if self.reason == "open" and not self.left:
            return None
        ending = None if self.left else self.ending
        self.ending = None
        return ending or StopAsyncIteration

    def take(self, limit):
        events, self.buffer = self.buffer[:limit], self.buffer[limit:]
        self.counts["delivered"] += len(events)
        return events

    @precondition(lambda self: not self.waiting)
    @rule(limit=st.integers(1, 6), how=st.sampled_from(["anext", "batch", "array", "get_nowait"]))
    def consume(self, limit, how):
        take = {
            "anext": lambda: anext(self.stream),
            "batch": lambda: anext(self.stream.batches(limit)),
            "array": lambda: anext(self.stream.arrays(limit)),
            "get_nowait": self.stream.get_nowait,
        }[how]

        async def step():
            got = take() if how == "get_nowait" else await take()
            return list(got) if how in ("batch", "array") else [got]

        async def start():
            task = asyncio.create_task(step())
            await asyncio.sleep(0)
            return task

        limit = 1 if how in ("anext", "get_nowait") else limit
        if events := self.take(limit):
            assert self.loop.run_until_complete(step()) == events
        elif end := self.expected_end():
            if how == "get_nowait" and end is StopAsyncIteration:
                end = aiobridge.EndOfStream
            with pytest.raises(end):
                self.loop.run_until_complete(step())
        elif how == "get_nowait":
            with pytest.raises(asyncio.QueueEmpty):
                self.loop.run_until_complete(step())
        else:
            self.waiting, self.limit = self.loop.run_until_complete(start()), limit

    @precondition(lambda self: self.waiting)
    @rule()
    def cancel_the_consumer(self):
        async def cancelled():
            self.waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await self.waiting

        self.loop.run_until_complete(cancelled())
        self.waiting = None

    @precondition(lambda self: self.waiting and (self.buffer or self.reason != "open"))
    @rule()
    def the_consumer_gets_what_it_waits_for(self):
        if events := self.take(self.limit):
            assert self.loop.run_until_complete(self.waiting) == events
        else:
            end = self.expected_end()
            with pytest.raises(end):
                self.loop.run_until_complete(self.waiting)
        self.waiting = None

    @precondition(lambda self: not self.waiting)
    @rule()
    def leave(self):
        self.turn(self.stream.aclose)
        self.end("consumer_closed", None)
        self.left = True
        self.abandon()

    @invariant()
    def the_figures_agree(self):
        if not hasattr(self, "stream"):
            return
        stats = self.stream.stats()
        self.counts["pending"] = len(self.buffer)
        assert {name: getattr(stats, name) for name in self.counts} == self.counts
        assert self.stream.qsize() == len(self.buffer)
        accounted = stats.delivered + stats.evicted + stats.merged + stats.undelivered + stats.pending
        assert stats.accepted == accounted
        if self.writers:
            assert self.writers[0].reason == self.reason


TestAccounting = StreamMachine.TestCase
TestAccounting.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
