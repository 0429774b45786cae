"""What analysis reads: the templates that a rollout names, and the Jobs that measure for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from slipway.adapters import analysisjobs, labels
from slipway.adapters.templates import Template, Templates
from slipway.api.analysis import AnalysisTemplate, ClusterAnalysisTemplate
from slipway.api.meta import parse_duration
from slipway.api.modelrollout import ModelRollout
from slipway.api.rollout_analysis import TemplateRef
from slipway.controllers.modelrollout.facts import MeasuringJob
from slipway.controllers.modelrollout.strategy import expand
from slipway.controllers.shared.typed import read
from slipway.controllers.shared.work import pods_of
from slipway.runtime.controller import Io
from slipway.runtime.resources import (
    ANALYSIS_TEMPLATE,
    CLUSTER_ANALYSIS_TEMPLATE,
    JOB,
    Object,
    is_deleting,
    uid_of,
)


def references(rollout: ModelRollout) -> Iterator[TemplateRef]:
    """Every template that a rollout names."""
    for step in expand(rollout.spec):
        if step.analyze is not None:
            yield from step.analyze.templates or ()
    spec = rollout.spec.analysis
    if spec is not None:
        yield from spec.templates
        for use in (spec.pre_promotion, spec.post_promotion):
            if use is not None:
                yield from use.templates


def read_templates(io: Io, rollout: ModelRollout) -> Templates:
    """Those of them that exist, from memory."""
    namespace = str(rollout.metadata.namespace)
    found: dict[tuple[bool, str], Template] = {}
    for each in references(rollout):
        template: Template | None
        if each.cluster_scope:
            template = read(io, CLUSTER_ANALYSIS_TEMPLATE, ClusterAnalysisTemplate, each.name)
        else:
            template = read(io, ANALYSIS_TEMPLATE, AnalysisTemplate, each.name, namespace)
        if template is not None:
            found[each.cluster_scope, each.name] = template
    return found


def read_jobs(io: Io, rollout: Object) -> dict[str, MeasuringJob]:
    """Jobs of the rollout that measure, by name, from memory."""
    found: dict[str, MeasuringJob] = {}
    for job in io.owned(rollout, JOB):
        meta = job["metadata"]
        if (meta.get("labels") or {}).get(labels.STAGE) == analysisjobs.STAGE and not is_deleting(job):
            pods = pods_of(io, meta["name"], meta["namespace"])
            found[meta["name"]] = MeasuringJob(uid_of(job), analysisjobs.answer_of(job, pods))
    return found


def gateway_windows(templates: Iterable[Template]) -> set[float]:
    """Lengths in seconds of the windows that metrics of the gateway need."""
    return {
        parse_duration(metric.provider.gateway.window).total_seconds()
        for template in templates
        for metric in template.spec.metrics
        if metric.provider.gateway is not None
    }
