"""Requests and results of Jobs that read the prediction log. Numbers are decimal strings, as statuses have them."""

from __future__ import annotations

from pydantic import Field

from slipway.contracts.jobs import Contract, Refusal, Request


class ComparedSlice(Contract):
    """A part of the requests: a condition on the model's inputs."""

    name: str
    where: str


class CompareRequest(Request):
    """Compare the answers of two versions in `[since, until)`. Command `compare`."""

    namespace: str
    rollout: str
    stable: str
    candidate: str
    stable_prefix: str
    """Folder of the stable version's predictions, ending in `/`."""
    candidate_prefix: str
    since: str
    until: str
    slices: list[ComparedSlice] = Field(default_factory=list)


class Deltas(Contract):
    """How answers differ. Pairs are requests that both versions answered, rows are all answers of a version."""

    pairs: int = 0
    stable_rows: int = 0
    candidate_rows: int = 0
    unpaired_stable: int = 0
    unpaired_candidate: int = 0
    agreement_percent: str | None = None
    decision_change_percent: str | None = None
    mean_delta: str | None = None
    """Candidate minus stable."""
    mean_absolute_delta: str | None = None
    p95_absolute_delta: str | None = None
    worst_delta: str | None = None
    population_stability: str | None = None
    kolmogorov_smirnov: str | None = None
    jensen_shannon: str | None = None
    stable_coverage_percent: str | None = None
    """Percent of a version's answers that its model gave, and was sure enough of."""
    candidate_coverage_percent: str | None = None


class SliceDeltas(Deltas):
    """The same for one slice."""

    name: str
    note: str | None = None
    """Why it could not be measured."""


class InputSkew(Contract):
    """How an input differs between the two versions."""

    name: str
    changed_percent: str | None = None
    """Percent of pairs with another value: features that were looked up at another moment or in another way."""
    population_stability: str | None = None
    stable_missing_percent: str | None = None
    candidate_missing_percent: str | None = None


class CompareResult(Contract):
    """What came out; `page` is for people, `report` for programs, both are keys."""

    refusal: Refusal | None = None
    overall: Deltas | None = None
    slices: list[SliceDeltas] = Field(default_factory=list)
    inputs: list[InputSkew] = Field(default_factory=list)
    duplicates: int = 0
    """Answers with an id and instance that the version had answered before; the first one counts."""
    report: str | None = None
    page: str | None = None


class SweepRequest(Request):
    """Remove the days before `before` below a rollout's folder. Command `sweep-predictions`."""

    folder: str
    before: str
    """Day, YYYY-MM-DD: objects of earlier days go."""


class SweepResult(Contract):
    """How much was removed."""

    refusal: Refusal | None = None
    objects: int = 0
    left: int = 0
    """Objects that another run has to remove, for one removes so many at most."""
