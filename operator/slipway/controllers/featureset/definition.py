"""Digests of what a FeatureSet defines and of what its values are made from; its Feast project: pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from slipway.adapters.artifacts import Location, key_of
from slipway.adapters.jobs import Work, prepare
from slipway.api.datasetversion import DatasetVersion
from slipway.api.featureset import FeatureSet
from slipway.contracts.digests import digest_json, short
from slipway.contracts.jobs import FeatureDataset, FeatureRequest
from slipway.controllers.shared.work import owner


def sources(feature_set: FeatureSet) -> tuple[str, ...]:
    """Names of the datasets that views read, each once, by name."""
    found = set()
    for view in feature_set.spec.views:
        for source in (view.source.aggregate, view.source.dataset):
            if source is not None:
                found.add(source.dataset_ref.name)
    return tuple(sorted(found))


def definition_digest(feature_set: FeatureSet) -> str:
    """Digest of entities and views: what decides a feature's value, given the data."""
    spec = feature_set.spec
    return digest_json(
        {"entities": [each.wire() for each in spec.entities], "views": [each.wire() for each in spec.views]}
    )


def input_digest(feature_set: FeatureSet, versions: Mapping[str, DatasetVersion]) -> str:
    """Digest of the definitions and of the data that values are computed from."""
    data = {name: version.spec.digest for name, version in versions.items()}
    return digest_json({"definition": definition_digest(feature_set), "datasets": data})


def feast_project(namespace: str, project: str) -> str:
    """The Feast project of a ModelProject. Feast allows no dashes, so a hash keeps `a-b` and `a_b` apart.

    It begins the names of online tables, which PostgreSQL cuts after 63 characters, and so has 39 at most.
    """
    plain = re.sub(r"[^a-z0-9]", "_", f"{namespace}_{project}")[:32]
    return f"{plain}_{short(digest_json([namespace, project]), 6)}"


def features(
    feature_set: FeatureSet, location: Location, versions: Mapping[str, DatasetVersion]
) -> tuple[FeatureRequest, Work]:
    """The request to bring values to the store, and its Job.

    The time of the last one is part of the Job's identity: values that were replaced in between are computed again.
    """
    meta, spec, status = feature_set.metadata, feature_set.spec, feature_set.status
    request = FeatureRequest(
        store=location.store,
        prefix="",
        namespace=meta.namespace or "",
        feature_set=meta.name,
        feast_project=feast_project(meta.namespace or "", spec.project_ref.name),
        entities=list(spec.entities),
        views=list(spec.views),
        datasets=[
            FeatureDataset(dataset=name, version=version.metadata.name, manifest=key_of(version.spec.manifest or ""))
            for name, version in sorted(versions.items())
        ],
        definition_digest=definition_digest(feature_set),
        input_digest=input_digest(feature_set, versions),
        owned_objects=sorted(status.objects or ()),
    )
    maker = owner(feature_set, spec.project_ref.name)
    return request, prepare(maker, "features", request, salt=status.last_materialized_time or "")
