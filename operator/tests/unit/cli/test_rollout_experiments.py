"""Experiments as people see them on the command line."""

from __future__ import annotations

from itertools import pairwise

from rich.text import Text

from slipway.api.modelrollout import ModelRolloutStatus
from slipway.api.rollout_experiment import Counted, ExperimentStatus, ExperimentVersion
from slipway.cli.rollout_experiments import changes, head, lines

VERSIONS = [
    ExperimentVersion(
        name="stable",
        version="m-1",
        percent=70,
        state="Completed",
        counted=Counted(requests=700, failed=7, timed=700),
        value="99.00",
        median_milliseconds="12.5",
    ),
    ExperimentVersion(
        name="candidate",
        version="m-2",
        percent=20,
        state="Completed",
        counted=Counted(requests=200, failed=0, timed=200),
        value="100.00",
        difference_low="0.10",
        difference_high="1.90",
        verdict="Better",
    ),
    ExperimentVersion(name="b", version="m-3", percent=5, state="Completed", verdict="TooFewRequests"),
    ExperimentVersion(name="c", version=None, percent=5, state="Left", message="No further version [passed]."),
]
RUN = ExperimentStatus(
    step="compare",
    candidate="m-2",
    phase="Completed",
    begun_at="2026-11-23T08:00:00Z",
    versions=VERSIONS,
    winner="candidate",
    message="The candidate is better.",
)


def plain(text: str) -> str:
    return Text.from_markup(text).plain


def test_each_version_has_a_line_with_what_is_known() -> None:
    assert plain(head(RUN)) == "✔ experiment compare Completed: The candidate is better."
    assert [plain(each) for each in lines(RUN)] == [
        "stable     m-1  70 %, 700 requests, 7 failed, 99.00 % good, median 12.5 ms",
        "candidate  m-2  20 %, 200 requests, 0 failed, 100.00 % good, better (0.10 to 1.90 points)",
        "b          m-3  5 %, too few requests",
        "c          -  5 %, left: No further version [passed].",
    ]


def test_phases_and_who_leaves_are_told_once() -> None:
    begun = RUN.model_copy(update={"phase": "Running", "message": None, "versions": VERSIONS[:3]})
    left = begun.model_copy(update={"versions": VERSIONS})
    seen = [ModelRolloutStatus(), *(ModelRolloutStatus(experiments=[each]) for each in (begun, begun, left, RUN))]
    said = [list(changes(before, after)) for before, after in pairwise(seen)]
    assert said == [
        ["experiment compare Running"],
        [],
        ["experiment compare: c left: No further version [passed]."],
        ["experiment compare Completed: The candidate is better."],
    ]
