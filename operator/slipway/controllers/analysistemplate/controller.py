"""The controllers of both kinds of templates: compile conditions, find arguments that nobody declares, and say so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from slipway.adapters.templates import problems
from slipway.api.analysis import AnalysisTemplate, AnalysisTemplateStatus, ClusterAnalysisTemplate
from slipway.api.reasons import Reason
from slipway.controllers.shared.typed import Subject, finish, subject
from slipway.runtime.conditions import Conditions
from slipway.runtime.controller import Io, Plan, Watch
from slipway.runtime.resources import ANALYSIS_TEMPLATE, CLUSTER_ANALYSIS_TEMPLATE, Key, ResourceType


def make_plan(template: Subject[AnalysisTemplate] | Subject[ClusterAnalysisTemplate], now: datetime) -> Plan:
    """Say whether the template can be used; pure."""
    spec = template.typed.spec
    conditions = Conditions(template.raw, now)
    found = problems(spec)
    if found:
        conditions.false("Ready", Reason.InvalidSpec, " ".join(each.sentence for each in found))
    else:
        metrics = "metric" if len(spec.metrics) == 1 else "metrics"
        conditions.true("Ready", Reason.Valid, f"{len(spec.metrics)} {metrics}; every condition compiles.")
    return Plan(status=finish(AnalysisTemplateStatus, template, conditions, metrics=len(spec.metrics)))


class AnalysisTemplateController:
    """Judges templates of a namespace."""

    type: ResourceType = ANALYSIS_TEMPLATE
    watches: Sequence[Watch] = ()

    async def observe(self, io: Io, key: Key) -> Subject[AnalysisTemplate] | None:
        """The template."""
        found = subject(io, key, AnalysisTemplate)
        return None if found is None or found.deleting else found

    def plan(self, snapshot: Subject[AnalysisTemplate], now: datetime) -> Plan:
        """Whether it can be used."""
        return make_plan(snapshot, now)


class ClusterAnalysisTemplateController:
    """Judges templates of the cluster."""

    type: ResourceType = CLUSTER_ANALYSIS_TEMPLATE
    watches: Sequence[Watch] = ()

    async def observe(self, io: Io, key: Key) -> Subject[ClusterAnalysisTemplate] | None:
        """The template."""
        found = subject(io, key, ClusterAnalysisTemplate)
        return None if found is None or found.deleting else found

    def plan(self, snapshot: Subject[ClusterAnalysisTemplate], now: datetime) -> Plan:
        """Whether it can be used."""
        return make_plan(snapshot, now)
