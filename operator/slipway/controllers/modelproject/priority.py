"""Impact and feasibility: the two axes on which a project's priority is judged. Pure.

Feasibility comes from seven questions. An answer that stands in the way counts 0 (a High cost), one that does not
counts 2; published work is the one question where High helps. Of the 14 points that are possible, 10 and more make
High, 5 and more Medium. A Medium counts as high on either axis: only what is plainly Low is held against a project.
"""

from __future__ import annotations

from slipway.api.modelproject import Feasibility, Level, Priority, PriorityStatus

_POINTS: dict[Level, int] = {"Low": 0, "Medium": 1, "High": 2}
HIGH_FROM, MEDIUM_FROM = 10, 5


def assess(priority: Priority) -> PriorityStatus:
    """The verdict on a project."""
    impact, feasible = priority.impact.level, feasibility(priority.feasibility)
    if impact != "Low":
        verdict = "DoNow" if feasible != "Low" else "WorthTheEffort"
    else:
        verdict = "LowHangingFruit" if feasible != "Low" else "Reconsider"
    return PriorityStatus(impact=impact, feasibility=feasible, verdict=verdict)


def feasibility(answers: Feasibility) -> Level:
    """The level of feasibility from the answers."""
    points = score(answers)
    return "High" if points >= HIGH_FROM else "Medium" if points >= MEDIUM_FROM else "Low"


def score(answers: Feasibility) -> int:
    """Points from 0 to 14."""
    hindrances = (
        answers.data_acquisition_cost,
        answers.labelling_cost,
        answers.data_needed,
        answers.wrong_prediction_cost,
        answers.training_compute,
        answers.inference_constraint,
    )
    return sum(2 - _POINTS[each.level] for each in hindrances) + _POINTS[answers.published_work.level]
