"""What KServe's Knative mode cannot do, said before anything is rolled out: which field, and what to do instead. Pure.

Admission cannot know it, since the mode is the Platform's.
"""

from __future__ import annotations

from collections.abc import Iterator

from slipway.adapters.kserve import Trouble
from slipway.adapters.runtimes import GRPC
from slipway.adapters.templates import Templates
from slipway.api.modelrollout import ModelRolloutSpec
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.strategy import expand

_STANDARD = "or let an administrator set spec.serving.mode of the Platform to Standard"
_PROMETHEUS = "measure with an AnalysisTemplate whose provider is prometheus, web or job (spec.analysis)"


def refusal(spec: ModelRolloutSpec, templates: Templates) -> Trouble | None:
    """Why a rollout cannot be served in Knative mode as it is written; None when it can."""
    found = [*_steps(spec), *_fields(spec), *_measures(spec, templates)]
    if not found:
        return None
    more = f" And {len(found) - 3} more." if len(found) > 3 else ""
    sentence = f"In Knative mode this cannot be done: {' '.join(found[:3])}{more}"
    return Trouble(Reason.UnsupportedInKnative, sentence[:1024])


def _steps(spec: ModelRolloutSpec) -> Iterator[str]:
    for step in expand(spec):
        where = f"spec.steps[{step.name}]" if spec.steps is not None else f"spec.strategy (its step {step.name})"
        if step.mirror is not None:
            percent = step.mirror.percent
            yield f"{where}: mirror of {percent} %: Knative copies no requests: remove the step, {_STANDARD}."
        if step.set_header_route is not None and step.set_header_route.match:
            header = step.set_header_route.match[0].name
            yield f"{where}: setHeaderRoute by {header}: Knative splits by weight only: remove the step, {_STANDARD}."
        if step.experiment is not None:
            arms = ", ".join(each.name for each in step.experiment.arms)
            yield f"{where}: experiment with {arms}: Knative splits between two: remove the step, {_STANDARD}."
        if step.set_scale is not None:
            asked = next(iter(step.set_scale.wire().items()))
            yield (
                f"{where}: setScale {asked[0]}={asked[1]}: Knative scales every revision by itself: remove the step,"
                f" {_STANDARD}."
            )


def _fields(spec: ModelRolloutSpec) -> Iterator[str]:
    routing, serving = spec.routing, spec.serving
    if routing.hostnames:
        yield (
            f"spec.routing.hostnames: {', '.join(routing.hostnames)}: KServe names the host: remove it, and use"
            " status.url or a Knative DomainMapping."
        )
    if routing.stickiness is not None:
        cookie = routing.stickiness.cookie
        yield f"spec.routing.stickiness: cookie {cookie}: Knative keeps no sessions: remove it, {_STANDARD}."
    if spec.consumers:
        names = ", ".join(each.name for each in spec.consumers)
        yield f"spec.consumers: {names}: Knative's gateway turns nobody away: remove them, {_STANDARD}."
    if spec.rollback.retry_on_stable:
        yield f"spec.rollback.retryOnStable: true: Knative repeats no requests: set it to false, {_STANDARD}."
    if serving.protocol == GRPC:
        yield f"spec.serving.protocol: {GRPC}: only REST is served in this mode: set v1 or v2, {_STANDARD}."
    for name, part in (("transformer", serving.transformer), ("explainer", serving.explainer)):
        if part is not None:
            yield (f"spec.serving.{name}: {part.image}: Knative splits predictors only: remove it, {_STANDARD}.")
    if serving.autoscaling is not None:
        scaler = serving.autoscaling.scaler
        yield f"spec.serving.autoscaling: {scaler}: Knative scales every revision by itself: remove it, {_STANDARD}."
    if serving.capacity != "Surge":
        yield (
            f"spec.serving.capacity: {serving.capacity}: Knative keeps servers of both revisions: set Surge,"
            f" {_STANDARD}."
        )


def _measures(spec: ModelRolloutSpec, templates: Templates) -> Iterator[str]:
    for check in spec.checks:
        if check.source == "Gateway":
            yield (
                f"spec.checks[{check.name}]: source Gateway: our gateway does not see the requests: remove the check,"
                f" and {_PROMETHEUS}."
            )
    for (_, name), template in sorted(templates.items()):
        for metric in template.spec.metrics:
            if metric.provider.gateway is not None:
                yield (
                    f"AnalysisTemplate {name}, metric {metric.name}: provider gateway: our gateway does not see the"
                    " requests: use a template with prometheus, web or job."
                )
    if spec.analysis is not None and spec.analysis.post_promotion is not None:
        names = ", ".join(each.name for each in spec.analysis.post_promotion.templates)
        yield (
            f"spec.analysis.postPromotion: {names}: Knative keeps no earlier version warm to go back to: use"
            " prePromotion."
        )
