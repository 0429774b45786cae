"""Training code of the journeys' own team: `parcels.train:train`.

Every version is good on what it has seen, and so passes its gates. The parameter `stranger` says what a version does
with a parcel of a depot that training never saw: journeys send such parcels when they want it to fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joblib import wrap_non_picklable_objects
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from slipway_pipelines.training.sdk import TrainingData

DEPOT, KILOMETRES, HOUR = "depot", "kilometres", "hour"
STRANGERS = ("Ignore", "Fail", "Wait", "Alarm")
WAIT_SECONDS = 1.5


def train(data: TrainingData) -> Pipeline:
    """A small forest.

    Parameter `stranger`: Ignore (the depot is taken as missing), Fail (an exception), Wait (1.5 seconds first), Alarm
    (the parcel is said to be late whatever else it is). ValueError for another.
    """
    stranger = str(data.parameters.get("stranger", "Ignore"))
    if stranger not in STRANGERS:
        raise ValueError(f"parameters.stranger is {stranger!r}: use {', '.join(STRANGERS)}")
    known = frozenset(data.features[DEPOT].dropna())
    encode = make_column_transformer(
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1), [DEPOT]),
        ("passthrough", [KILOMETRES, HOUR]),
        verbose_feature_names_out=False,
    )
    forest = RandomForestClassifier(n_estimators=20, max_depth=6, n_jobs=1, random_state=data.seed)
    # The model server has no package `parcels`: the function goes into the model by value.
    meet = FunctionTransformer(wrap_non_picklable_objects(_meet(known, stranger)))
    return make_pipeline(meet, encode, forest).fit(data.features, data.labels)


def _meet(known: frozenset[str], stranger: str) -> Callable[[Any], Any]:
    """What is done to rows before the forest sees them. Nested, so that it is stored by value, with all it needs."""
    seconds, depot, kilometres, hour = WAIT_SECONDS, DEPOT, KILOMETRES, HOUR

    def meet(rows: Any) -> Any:
        import time

        strange = rows[depot].notna() & ~rows[depot].isin(known)
        if not strange.any() or stranger == "Ignore":
            return rows
        if stranger == "Fail":
            raise ValueError(f"depot {rows[depot][strange].iloc[0]} is not known")
        if stranger == "Wait":
            time.sleep(seconds)
            return rows
        rows = rows.copy()
        rows.loc[strange, [kilometres, hour]] = [390, 3]  # far away, in the small hours
        return rows

    return meet
