"""From a strategy to steps: there is one engine, and it only knows steps. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.api.modelrollout import ModelRolloutSpec
from slipway.api.rollout_steps import Analyze, Mirror, Pause, SetHeaderRoute, Step, Stop
from slipway.api.rollout_strategy import AB, BlueGreen, Canary, Progressive, Shadow, Strategy

_SHOWN = 256


def expand(spec: ModelRolloutSpec) -> list[Step]:
    """The steps of a rollout: those that are written, or those that its strategy stands for."""
    if spec.steps is not None:
        return spec.steps
    return list(_expand(spec.strategy)) if spec.strategy is not None else []


def _expand(strategy: Strategy) -> Iterator[Step]:
    if strategy.canary is not None:
        yield from _canary(strategy.canary)
    elif strategy.shadow is not None:
        yield from _shadow(strategy.shadow)
    elif strategy.blue_green is not None:
        yield from _blue_green(strategy.blue_green)
    elif strategy.ab is not None:
        yield from _ab(strategy.ab)
    elif strategy.progressive is not None:
        yield from _progressive(strategy.progressive)


def _everyone() -> Step:
    return Step(name="everyone", set_weight=100)


def _canary(canary: Canary) -> Iterator[Step]:
    for weight in canary.weights:
        yield Step(name=f"weight-{weight}", set_weight=weight)
        if canary.analyze is not None:
            yield Step(name=f"analyze-{weight}", analyze=canary.analyze)
        else:
            yield Step(name=f"pause-{weight}", pause=canary.pause)
    yield _everyone()


def _shadow(shadow: Shadow) -> Iterator[Step]:
    yield Step(name="shadow", mirror=Mirror(percent=shadow.percent, for_=shadow.for_))
    if shadow.then is not None:
        yield from _canary(shadow.then)
    else:
        yield _everyone()


def _blue_green(blue_green: BlueGreen) -> Iterator[Step]:
    if blue_green.preview:
        yield Step(name="preview", set_header_route=SetHeaderRoute(match=blue_green.preview))
    if not blue_green.auto_promote:
        yield Step(name="approval", pause=Pause(until="Promoted"))
    elif blue_green.after is not None:
        yield Step(name="stand-by", pause=Pause(for_=blue_green.after))
    yield _everyone()


def _ab(ab: AB) -> Iterator[Step]:
    if ab.header:
        yield Step(name="b-users", set_header_route=SetHeaderRoute(match=ab.header))
    else:
        yield Step(name="b-users", set_weight=ab.percent)
    if ab.on_end == "Promote":
        yield Step(name="compare", analyze=Analyze(for_=ab.for_))
        yield _everyone()
        return
    yield Step(name="compare", pause=Pause(for_=ab.for_))
    if ab.on_end == "Stop":
        yield Step(name="stop", stop=Stop(message=f"The time of the comparison, {ab.for_}, is over."))
        return
    yield Step(name="decision", pause=Pause(until="Promoted"))
    yield _everyone()


def _progressive(progressive: Progressive) -> Iterator[Step]:
    last = progressive.max_weight
    for weight in [*range(progressive.step_weight, last, progressive.step_weight), last]:
        yield Step(name=f"weight-{weight}", set_weight=weight)
        yield Step(name=f"analyze-{weight}", analyze=Analyze(for_=progressive.interval))
    if last < 100:
        yield _everyone()


def told(step: Step) -> str:
    """What a step does, as one would write it in `steps`: `pause: {for: 10m}`."""
    ((action, value),) = ((name, value) for name, value in step.wire().items() if name != "name")
    text = f"{action}: {_flow(value)}"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _flow(value: Any) -> str:
    """A value in YAML's short form."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
