"""Rollouts and the templates that they name: whether these are there, and get their arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from slipway.api.analysis import AnalysisTemplate, ClusterAnalysisTemplate
from slipway.api.modelrollout import ModelRollout
from slipway.api.rollout_analysis import ArgumentValue, TemplateRef
from slipway.lint.findings import FieldPath, Problem, did_you_mean, dotted
from slipway.lint.index import Index, resolve


def analysis_problems(index: Index, rollout: ModelRollout) -> Iterator[Problem]:
    """Templates that are not there, arguments that they do not get, and those that nobody declares."""
    analysis = rollout.spec.analysis
    common = analysis.args if analysis is not None else []
    known: set[str] = set()
    complete = True
    for path, references, args in _uses(rollout):
        found = [
            _template(index, rollout, each, (*path, "templates", number)) for number, each in enumerate(references)
        ]
        for number, (template, problems) in enumerate(found):
            yield from problems
            if template is None:
                complete = False
                continue
            known |= {each.name for each in template.spec.args}
            yield from _missing(template, {each.name for each in (*common, *args)}, (*path, "templates", number))
        if all(template is not None for template, _ in found):
            declared = {each.name for template, _ in found if template is not None for each in template.spec.args}
            yield from _undeclared(args, declared, path)
    if complete:
        yield from _undeclared(common, known, ("spec", "analysis"))


def _uses(rollout: ModelRollout) -> Iterator[tuple[FieldPath, Sequence[TemplateRef], Sequence[ArgumentValue]]]:
    for number, step in enumerate(rollout.spec.steps or ()):
        if step.analyze is not None and step.analyze.templates:
            yield ("spec", "steps", number, "analyze"), step.analyze.templates, step.analyze.args or ()
    strategy = rollout.spec.strategy
    canaries = (
        (("canary",), strategy.canary if strategy else None),
        (("shadow", "then"), strategy.shadow.then if strategy and strategy.shadow else None),
    )
    for path, canary in canaries:
        if canary is not None and canary.analyze is not None and canary.analyze.templates:
            analyze = canary.analyze
            yield ("spec", "strategy", *path, "analyze"), analyze.templates or (), analyze.args or ()
    analysis = rollout.spec.analysis
    if analysis is None:
        return
    yield ("spec", "analysis"), analysis.templates, ()
    for name, use in (("prePromotion", analysis.pre_promotion), ("postPromotion", analysis.post_promotion)):
        if use is not None:
            yield ("spec", "analysis", name), use.templates, use.args


def _template(
    index: Index, rollout: ModelRollout, reference: TemplateRef, path: FieldPath
) -> tuple[AnalysisTemplate | ClusterAnalysisTemplate | None, list[Problem]]:
    problems: list[Problem] = []
    here = (*path, "name")
    if reference.cluster_scope:
        return resolve(index, rollout, ClusterAnalysisTemplate, reference.name, here, problems), problems
    return resolve(index, rollout, AnalysisTemplate, reference.name, here, problems), problems


def _missing(
    template: AnalysisTemplate | ClusterAnalysisTemplate, given: set[str], path: FieldPath
) -> Iterator[Problem]:
    for argument in template.spec.args:
        if argument.value is None and argument.name not in given:
            what = f"{template.kind_name} {template.metadata.name}"
            message = f"{dotted(path)}: {what} needs a value for argument {argument.name}: add it to args"
            yield Problem(path, "argument", message)


def _undeclared(args: Sequence[ArgumentValue], declared: set[str], path: FieldPath) -> Iterator[Problem]:
    for number, argument in enumerate(args):
        if argument.name not in declared:
            here: FieldPath = (*path, "args", number, "name")
            hint = did_you_mean(argument.name, declared)
            yield Problem(here, "argument", f"{dotted(here)}: no template here has an argument {argument.name}{hint}")
