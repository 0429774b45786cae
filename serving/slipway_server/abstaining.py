"""What a client is told of a probability: the model's decision, the baseline's, or none where the model is too unsure.

Without a confidence to ask for, every answer is the model's, in the form that it always had.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slipway.contracts.decisions import Source, confidence, decision, is_sure
from slipway_server import metrics

log = logging.getLogger("slipway.model")

Columns = Mapping[str, Sequence[Any]]
Ask = Callable[[dict[str, list[Any]], int], Awaitable[list[float]]]
"""Columns and their number of rows to a probability a row. Whatever the model raises."""


@dataclass(frozen=True)
class Decision:
    """One answer.

    :param probability: of true, as the client gets it: the baseline's where that answered; None with an abstention
    :param sure: the confidence of the model, whoever answered
    """

    label: bool | None
    probability: float | None
    sure: float
    source: Source

    @classmethod
    def of_model(cls, probability: float) -> Decision:
        """The model's own."""
        return cls(decision(probability), probability, confidence(probability), "model")

    def wire(self) -> dict[str, Any]:
        """The prediction of a v1 answer."""
        return {
            "label": self.label,
            "probability": self.probability,
            "confidence": self.sure,
            "source": self.source,
            "abstained": self.source == "none",
        }

    def tensors(self) -> dict[str, Any]:
        """The same for the typed tensors of protocol v2, which know no missing value: label is false then."""
        missing = {"label": False, "probability": math.nan} if self.source == "none" else {}
        return self.wire() | missing


@dataclass(frozen=True)
class Abstention:
    """When the model's answer is no prediction.

    :param below: confidence under which it is none
    :param baseline: answers then; without one nobody does
    """

    below: float
    baseline: Ask | None = None

    async def decide(self, columns: Columns, probabilities: Sequence[float]) -> list[Decision]:
        """An answer for each row. A baseline that fails answers nothing, and fails no request."""
        decisions = [self.alone(each) for each in probabilities]
        unsure = [row for row, each in enumerate(decisions) if each.source == "none"]
        if unsure and self.baseline is not None:
            asked = {name: [values[row] for row in unsure] for name, values in columns.items()}
            for row, probability in zip(unsure, await self._ask(self.baseline, asked, len(unsure)), strict=False):
                if math.isfinite(probability):
                    decisions[row] = Decision(decision(probability), probability, decisions[row].sure, "baseline")
        return decisions

    def alone(self, probability: float) -> Decision:
        """The model's answer, or none."""
        found = Decision.of_model(probability)
        return found if is_sure(probability, self.below) else Decision(None, None, found.sure, "none")

    async def _ask(self, baseline: Ask, columns: dict[str, list[Any]], rows: int) -> list[float]:
        try:
            return await baseline(columns, rows)
        except Exception:
            log.exception("The baseline raised an exception: the server abstains")
            return []


async def decide(abstention: Abstention | None, columns: Columns, probabilities: Sequence[float]) -> list[Decision]:
    """An answer for each row, counted."""
    if abstention is None:
        found = [Decision.of_model(each) for each in probabilities]
    else:
        found = await abstention.decide(columns, probabilities)
    metrics.count_answers(each.source for each in found)
    return found
