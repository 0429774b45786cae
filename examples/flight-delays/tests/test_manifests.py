"""Every manifest of the example is what the API types say, without a field that nobody reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.api import kind_named
from slipway.api.meta import API_VERSION

MANIFESTS = Path(__file__).parents[1] / "manifests"
OBJECTS = [
    pytest.param(document, id=f"{path.stem}-{document['metadata']['name']}")
    for path in sorted(MANIFESTS.rglob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
    if document["apiVersion"] == API_VERSION
]


def test_all_kinds_that_people_write_are_there() -> None:
    kinds = {document.values[0]["kind"] for document in OBJECTS}
    assert kinds == {"Platform", "ComputePool", "ModelProject", "Dataset", "FeatureSet", "ModelRollout"}


@pytest.mark.parametrize("document", OBJECTS)
def test_object_is_read_completely(document: dict[str, Any]) -> None:
    parsed = kind_named(document["kind"]).model_validate(document)
    read = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    # The API ignores what it does not know, so an unknown or misspelt field is missing here.
    assert read["spec"] == document["spec"]


@pytest.mark.parametrize("document", OBJECTS)
def test_references_lead_to_objects(document: dict[str, Any]) -> None:
    names: dict[str, set[str]] = {}
    for other in OBJECTS:
        names.setdefault(other.values[0]["kind"], set()).add(other.values[0]["metadata"]["name"])
    kinds = {
        "projectRef": "ModelProject",
        "datasetRef": "Dataset",
        "poolRef": "ComputePool",
        "featureSetRefs": "FeatureSet",
    }

    def check(value: Any) -> None:
        if isinstance(value, list):
            for item in value:
                check(item)
        elif isinstance(value, dict):
            for key, item in value.items():
                for reference in (item if isinstance(item, list) else [item]) if key in kinds else []:
                    assert reference["name"] in names[kinds[key]], f"{key} names {reference['name']}"
                check(item)

    check(document["spec"])
