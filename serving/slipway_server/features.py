"""What the model asks of the online feature store, and how values that are missing are replaced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from slipway.api.modelversion import InputField
from slipway_server import metrics
from slipway_server.errors import Refused
from slipway_server.inputs import Instance

Outcome = Literal["answered", "timeout", "error"]


@dataclass(frozen=True)
class Lookup:
    """Answer of the store: a list of values for each feature, in the instances' order, None where it has none."""

    outcome: Outcome
    values: Mapping[str, list[Any]] = field(default_factory=dict)


class FeatureSource(Protocol):
    """An online store."""

    @property
    def ready(self) -> bool:
        """Whether look-ups can be answered, or never will be needed."""
        ...

    async def lookup(self, instances: Sequence[Instance], features: Sequence[str]) -> Lookup:
        """Values of `features` for the instances. Never raises because of the store, and keeps its time."""
        ...


async def fill(
    source: FeatureSource | None,
    instances: Sequence[Instance],
    fields: Sequence[InputField],
    columns: dict[str, list[Any]],
    *,
    fail_on_missing: bool,
) -> dict[str, list[str]]:
    """Complete the feature columns in place: what the request carries wins, then the store, then the default.

    Returns where each value of each feature came from. Refused (503) for a missing value when defaults are not wanted.
    """
    wanted = [f for f in fields if None in columns[f.name]]
    rows = sorted({i for f in wanted for i, value in enumerate(columns[f.name]) if value is None})
    answer = Lookup("answered")
    if wanted and source is not None:
        answer = await source.lookup([instances[i] for i in rows], [f.name for f in wanted])
    place = {row: i for i, row in enumerate(rows)}
    origins: dict[str, list[str]] = {}
    for spec in fields:
        found = answer.values.get(spec.name)
        came: list[str] = []
        for row, carried in enumerate(columns[spec.name]):
            value, origin = carried, "request"
            if carried is None:
                value, origin = (found[place[row]] if found else None), "hit"
            if value is None:
                value, origin = _default(spec, row, answer.outcome, fail=fail_on_missing)
            columns[spec.name][row] = value
            came.append(origin)
        origins[spec.name] = came
        for origin, number in Counter(came).items():
            metrics.LOOKUPS.labels(origin).inc(number)
    return origins


def _default(spec: InputField, row: int, outcome: Outcome, *, fail: bool) -> tuple[Any, str]:
    origin = "default" if outcome == "answered" else outcome
    if fail:
        metrics.LOOKUPS.labels(origin).inc()
        why = {
            "default": "is not in the feature store",
            "timeout": "did not come from the feature store in time",
            "error": "could not be read from the feature store",
        }[origin]
        raise Refused(
            503,
            f"The feature {spec.name} of instances[{row}] {why}, and onMissing is Fail: "
            "send it in the request, or set serving.features.onMissing to UseDefaults.",
        )
    default = spec.default
    return (float(default) if spec.type == "Double" and isinstance(default, int) else default), origin
