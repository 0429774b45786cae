"""A version's transformer and explainer, in the InferenceService of its model server: all three are one version.

KServe starts both with the address of the model server behind them, and makes a Service for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from slipway.adapters import scaling
from slipway.api.modelrollout import Serving
from slipway.api.rollout_components import Component
from slipway.api.rollout_serving import DIGEST_PLACE, VERSION_PLACE
from slipway.contracts.digests import short
from slipway.runtime.resources import Object

CONTAINER: Final = "kserve-container"
"""KServe gives a container of this name its readiness probe."""


def components(
    serving: Serving, name: str, version: str, digest: str, pod: Mapping[str, Any], container: Mapping[str, Any]
) -> Object:
    """`transformer` and `explainer` of an InferenceService; nothing for what is not declared.

    :param name: the model's in URLs
    :param version: the ModelVersion
    :param digest: of its model
    :param pod: what all pods of a version have
    :param container: what all containers have
    """
    declared = {"transformer": serving.transformer, "explainer": serving.explainer}
    places = {VERSION_PLACE: version, DIGEST_PLACE: short(digest)}
    return {
        kind: {
            "minReplicas": part.replicas.min,
            "maxReplicas": part.replicas.max,
            **scaling.component_scaling(serving),
            **pod,
            "containers": [{**_container(part, name, places), **container}],
        }
        for kind, part in declared.items()
        if part is not None
    }


def _container(part: Component, name: str, places: Mapping[str, str]) -> Object:
    spec: Object = {
        "name": CONTAINER,
        "image": _filled(part.image, places),
        "args": [*(_filled(each, places) for each in part.args), f"--model_name={name}"],
    }
    if part.env:
        spec["env"] = [{"name": each.name, "value": _filled(each.value, places)} for each in part.env]
    if part.resources is not None:
        spec["resources"] = part.resources.wire()
    return spec


def _filled(text: str, places: Mapping[str, str]) -> str:
    for place, value in places.items():
        text = text.replace(place, value)
    return text
