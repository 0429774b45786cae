"""Abstention: what a server answers where the model is too unsure."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from slipway.api.meta import ApiModel, DecimalString, rule


class Abstain(ApiModel):
    """When an answer of the model is no prediction, and what clients get instead."""

    rules: ClassVar = (
        rule(
            "double(self.below) > 0.5 && double(self.below) <= 1.0",
            "below must be greater than 0.5 and at most 1: the class that an answer names has a probability of at"
            " least 0.5",
        ),
    )

    below: DecimalString = Field(
        description="Confidence under which an answer is no prediction: the probability of the class that it names."
    )
    fallback: Literal["None", "Baseline"] = Field(
        "None",
        description="What is answered instead. None: an abstention, without a label. Baseline: what the version's"
        " baseline (a plain logistic regression) says, marked as such.",
    )
