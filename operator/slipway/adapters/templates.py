"""Templates of metrics: what is wrong with one, and the metrics that a rollout makes of several. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from slipway.adapters import cel
from slipway.api.analysis import GIVEN, AnalysisTemplate, AnalysisTemplateSpec, ClusterAnalysisTemplate, Metric
from slipway.api.arguments import filled, names_in, replaced
from slipway.api.rollout_analysis import METRICS_MAX, ArgumentValue, TemplateRef

Template = AnalysisTemplate | ClusterAnalysisTemplate
Templates = Mapping[tuple[bool, str], Template]
"""By whether it is cluster-wide, and name."""

_STAND_INS = ("1", "a")
"""Values that a condition is compiled with where an argument has none yet: a number, or a name."""


@dataclass(frozen=True)
class Problem:
    """What keeps a template from being used.

    :param metric: index of the metric
    :param field: of the metric; empty for all of it
    """

    metric: int
    field: tuple[str, ...]
    sentence: str


def problems(spec: AnalysisTemplateSpec) -> list[Problem]:
    """Everything that keeps a template from being used."""
    known = {each.name for each in spec.args} | set(GIVEN)
    found: list[Problem] = []
    for number, metric in enumerate(spec.metrics):
        path = f"spec.metrics[{number}] ({metric.name})"
        unknown = sorted(names_in(metric) - known)
        for name in unknown:
            sentence = f"{path}: there is no argument {name}: declare it in spec.args, or correct the name."
            found.append(Problem(number, (), sentence))
        conditions = {"successCondition": metric.success_condition, "failureCondition": metric.failure_condition}
        for field, text in conditions.items():
            wrong = _uncompilable(text, spec) if text is not None and not unknown else ""
            if wrong:
                found.append(Problem(number, (field,), f"{path}.{field}: `{text}` is no condition: {wrong}."))
    return found


def _uncompilable(condition: str, spec: AnalysisTemplateSpec) -> str:
    wrong = ""
    for stand_in in _STAND_INS:
        values = dict.fromkeys(GIVEN, stand_in) | {
            each.name: stand_in if each.value is None else each.value for each in spec.args
        }
        try:
            cel.check(replaced(condition, values))
        except cel.ConditionError as error:
            wrong = wrong or str(error)
        else:
            return ""
    return wrong


@dataclass(frozen=True)
class Metrics:
    """What a rollout measures, or a sentence why it cannot."""

    metrics: tuple[Metric, ...] = ()
    problem: str = ""


def metrics_of(
    references: Sequence[TemplateRef],
    templates: Templates,
    given: Mapping[str, str],
    *arguments: Iterable[ArgumentValue],
) -> Metrics:
    """The metrics of templates with their arguments filled in.

    :param given: what every rollout gives by itself
    :param arguments: of the rollout; later ones go before earlier ones
    """
    chosen = {each.name: each.value for values in arguments for each in values}
    found: dict[str, Metric] = {}
    for reference in references:
        kind = "ClusterAnalysisTemplate" if reference.cluster_scope else "AnalysisTemplate"
        template = templates.get((reference.cluster_scope, reference.name))
        if template is None:
            return Metrics(problem=f"There is no {kind} {reference.name}: create it, or correct its name.")
        made = _made(f"{kind} {reference.name}", template.spec, {**given}, chosen)
        if made.problem:
            return made
        for metric in made.metrics:
            if metric.name in found:
                sentence = f"{kind} {reference.name} has a metric {metric.name}, as another template of it: rename one."
                return Metrics(problem=sentence)
            found[metric.name] = metric
    if len(found) > METRICS_MAX:
        return Metrics(problem=f"The templates have {len(found)} metrics together; {METRICS_MAX} are allowed.")
    return Metrics(tuple(found.values()))


def _made(what: str, spec: AnalysisTemplateSpec, given: dict[str, str], chosen: Mapping[str, str]) -> Metrics:
    values = given
    for argument in spec.args:
        value = chosen.get(argument.name, argument.value)
        if value is None:
            return Metrics(problem=f"{what} needs a value for argument {argument.name}: add it to args.")
        values[argument.name] = value
    try:
        metrics = tuple(filled(metric, values) for metric in spec.metrics)
        for metric in metrics:
            for condition in (metric.success_condition, metric.failure_condition):
                if condition is not None:
                    cel.check(condition)
    except KeyError as error:
        return Metrics(
            problem=f"{what} refers to argument {error.args[0]}, which it does not declare: correct it there."
        )
    except cel.ConditionError as error:
        return Metrics(problem=f"{what}: a condition is none with the values of its arguments: {error}.")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Metrics(problem=f"{what}: {where} is not allowed with the values of its arguments: {first['msg']}.")
    return Metrics(metrics)
