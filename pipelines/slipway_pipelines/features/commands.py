"""`features` and `features-teardown`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC
from pathlib import Path

from slipway.api.featureset import View
from slipway.api.reasons import Reason
from slipway.contracts.digests import short
from slipway.contracts.jobs import (
    FeatureRequest,
    FeatureResult,
    FeatureTeardownRequest,
    FeatureTeardownResult,
    ViewValues,
)
from slipway_pipelines.data.parts import fetch_parts, read_manifest
from slipway_pipelines.errors import RefusalError
from slipway_pipelines.features.feaststore import FeastDatabase, close_store, load_feast, open_store
from slipway_pipelines.features.values import ViewInput, compute_view, source_dataset
from slipway_pipelines.sql.engine import Limits, container_limits
from slipway_pipelines.store import ObjectStore, ProgressWriter, digest_file, format_time


def run_features(request: FeatureRequest, store: ObjectStore, progress: ProgressWriter) -> FeatureResult:
    """Computes values, applies the definitions, and brings the newest values to the online store.

    RefusalError when a definition is at fault; OutageError when the feature store does not answer. Running it again
    gives the same.
    """
    database = FeastDatabase.from_environment()
    with ThreadPoolExecutor(1) as background, tempfile.TemporaryDirectory(prefix="slipway-") as temporary:
        feast = background.submit(load_feast)
        folder = Path(temporary).resolve()
        files = _compute_all(request, store, progress, folder, container_limits())
        values = [_upload(request, store, view, files[view.name]) for view in request.views]
        progress("load Feast", 60)
        return _to_feast(request, store, progress, database, files, values, feast)


def run_features_teardown(
    request: FeatureTeardownRequest, _: ObjectStore, progress: ProgressWriter
) -> FeatureTeardownResult:
    """Removes a FeatureSet's objects and online tables; what is gone already is no error."""
    from slipway_pipelines.features.apply import remove

    database = FeastDatabase.from_environment()
    progress("load Feast", 10)
    with database.lock(request.feast_project):
        client = open_store(database, request.feast_project)
        try:
            progress("remove objects", 60)
            return FeatureTeardownResult(removed=remove(client, request.objects))
        finally:
            close_store(client)


def _compute_all(
    request: FeatureRequest, store: ObjectStore, progress: ProgressWriter, folder: Path, limits: Limits
) -> dict[str, Path]:
    """A file of values by view, computed side by side."""
    progress("read the data", 5)
    inputs = {}
    for dataset in dict.fromkeys(source_dataset(view) for view in request.views):
        inputs[dataset] = _input(request, store, dataset, folder / dataset, limits)
    progress("compute values", 20)
    share = limits.memory // limits.threads

    def compute(view: View) -> Path:
        out = folder / f"{view.name}.parquet"
        compute_view(view, request.entities, inputs[source_dataset(view)], out, memory=share)
        return out

    with ThreadPoolExecutor(limits.threads) as pool:
        return dict(zip([view.name for view in request.views], pool.map(compute, request.views), strict=True))


def _input(request: FeatureRequest, store: ObjectStore, dataset: str, folder: Path, limits: Limits) -> ViewInput:
    found = [item for item in request.datasets if item.dataset == dataset]
    if not found:
        raise RefusalError(
            Reason.DependencyMissing,
            f"spec.views: dataset {dataset} has no version yet; its features are computed when it has one.",
        )
    manifest = read_manifest(store, found[0].manifest)
    paths = [folder / f"{number:06}.parquet" for number in range(len(manifest.parts))]
    fetch_parts(store, manifest.parts, paths, limits.threads)
    return ViewInput(manifest, paths)


def values_folder(namespace: str, feature_set: str) -> str:
    """Folder of a FeatureSet's values in the store."""
    return f"features/{namespace}/{feature_set}/"


def _upload(request: FeatureRequest, store: ObjectStore, view: View, path: Path) -> ViewValues:
    """Stores values under the digest of their input, which never changes, and as the newest, which Feast reads."""
    import pyarrow.parquet as pq

    folder = values_folder(request.namespace, request.feature_set)
    key = f"{folder}{short(request.input_digest)}/{view.name}.parquet"
    store.upload(path, key)
    store.upload(path, f"{folder}latest/{view.name}.parquet")
    return ViewValues(view=view.name, key=key, digest=digest_file(path), rows=pq.read_metadata(path).num_rows)


def _to_feast(
    request: FeatureRequest,
    store: ObjectStore,
    progress: ProgressWriter,
    database: FeastDatabase,
    files: dict[str, Path],
    values: Sequence[ViewValues],
    feast: Future[None],
) -> FeatureResult:
    feast.result()
    from slipway_pipelines.features.apply import Values, apply, materialize, newest_time
    from slipway_pipelines.features.definitions import Names, define

    names = Names(request.feast_project, request.namespace, request.feature_set)
    latest = f"{values_folder(request.namespace, request.feature_set)}latest/"
    definitions = define(
        names,
        request.entities,
        request.views,
        lambda view: store.uri(f"{latest}{view}.parquet"),
        s3_endpoint=store.endpoint,
    )
    newest = {view: newest_time(path) for view, path in files.items()}
    with database.lock(request.feast_project):
        progress("apply definitions", 70)
        client = open_store(database, request.feast_project)
        try:
            objects = apply(client, definitions, request.owned_objects)
            for number, (view, feast_view) in enumerate(zip(request.views, definitions.views, strict=True)):
                progress(f"materialize {view.name}", 80 + 15 * number // len(request.views))
                materialize(database, client, feast_view, Values(files[view.name], newest[view.name]))
        finally:
            close_store(client)
    times = [time for time in newest.values() if time is not None]
    return FeatureResult(
        objects=objects,
        values=list(values),
        materialized_until=format_time(max(times).replace(tzinfo=UTC)) if times else None,
    )
