"""The Lease's bookkeeping: random histories of two candidates never give two writers."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.search import examples

from slipway.runtime.lease import Term, Timing

TIMING = Timing(duration=15.0, renew=10.0, retry=2.0)
WHO = st.sampled_from(["a", "b"])


class TwoCandidates(RuleBasedStateMachine):
    """One shared record with optimistic locking, two Terms with monotonic clocks that are far apart.

    A write takes effect some time after it began, at most as long as its timeout: `remaining` at its beginning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.offset = {"a": 1000.0, "b": 500_000.0}  # nobody compares clocks
        self.terms = {who: Term(who, TIMING) for who in "ab"}
        self.record: dict[str, Any] | None = None
        self.version = 0
        self.read: dict[str, tuple[int, float]] = {}  # version that a candidate read, and when it began
        self.writes: dict[str, float] = {}  # candidate → until when its latest write may still take effect

    def clock(self, who: str) -> float:
        return self.now + self.offset[who]

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0, 6.0, 16.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(who=WHO)
    def read_lease(self, who: str) -> None:
        self.read[who] = (self.version, self.clock(who))
        if self.record is not None:
            self.terms[who].observe({"spec": self.record}, self.clock(who))

    @rule(who=WHO)
    def renew(self, who: str) -> None:
        """Send what was decided on the last read; the server refuses an outdated version."""
        if who not in self.read:
            return
        version, begun = self.read.pop(who)
        term = self.terms[who]
        if not term.may_acquire(self.clock(who)):
            term.lost()
            return
        if version != self.version:
            return
        self.version += 1
        self.record = {
            "holderIdentity": who,
            "renewTime": f"t{self.version}",
            "leaseDurationSeconds": TIMING.duration,
            "leaseTransitions": 0,
        }
        term.observe({"spec": self.record}, self.clock(who))
        term.renewed(begun)

    @rule(who=WHO)
    def write(self, who: str) -> None:
        remaining = self.terms[who].remaining(self.clock(who))
        if remaining > 0:
            self.writes[who] = self.now + remaining

    @rule(who=WHO)
    def release(self, who: str) -> None:
        term = self.terms[who]
        if term.valid(self.clock(who)) and self.record and self.record["holderIdentity"] == who:
            term.lost()
            self.writes.pop(who, None)  # a process that releases has let its writes end
            self.version += 1
            self.record = {**self.record, "holderIdentity": "", "renewTime": f"t{self.version}"}

    @invariant()
    def one_writer(self) -> None:
        assert not all(term.valid(self.clock(who)) for who, term in self.terms.items())

    @invariant()
    def no_write_outlives_its_term(self) -> None:
        for who, other in (("a", "b"), ("b", "a")):
            if self.terms[other].valid(self.clock(other)):
                assert self.writes.get(who, 0.0) <= self.now


TestTwoCandidates = TwoCandidates.TestCase
TestTwoCandidates.settings = settings(examples(40, 400), stateful_step_count=40)


def spec(holder: str, renewed: str, seconds: int = 15) -> dict[str, Any]:
    return {"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": seconds}}


def test_a_standby_waits_for_the_holders_duration_since_it_saw_the_last_renewal() -> None:
    term = Term("b", TIMING)
    term.observe(spec("a", "1999-01-01T00:00:00Z", seconds=30), 100.0)  # a time in the past means nothing
    assert not term.may_acquire(129.9)
    term.observe(spec("a", "1999-01-01T00:00:00Z", seconds=30), 120.0)  # seen again, unchanged
    assert term.wait(125.0) == 5.0
    assert term.may_acquire(130.0)
    term.observe(spec("a", "1999-01-01T00:00:02Z", seconds=30), 129.0)
    assert not term.may_acquire(130.0)


def test_a_released_lease_is_free_at_once() -> None:
    term = Term("b", TIMING)
    term.observe(spec("a", "1"), 0.0)
    term.observe(spec("", "2", seconds=1), 0.1)
    assert term.may_acquire(0.1)
    assert term.wait(0.1) == 0.0


def test_the_right_to_write_counts_from_the_beginning_of_the_renewal() -> None:
    term = Term("a", TIMING)
    assert not term.valid(0.0)
    term.renewed(begun=100.0)
    assert term.valid(109.9)
    assert term.remaining(109.0) == 6.0
    assert not term.valid(110.0)
    assert term.remaining(110.0) == 0.0
