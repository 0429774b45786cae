"""`delete-data`: deletes what a `deletionPolicy: Delete` says."""

from __future__ import annotations

from slipway.contracts.jobs import DeleteDataRequest, DeleteDataResult
from slipway_pipelines.store import ObjectStore, ProgressWriter


def run_delete_data(request: DeleteDataRequest, store: ObjectStore, progress: ProgressWriter) -> DeleteDataResult:
    """Deletes every object below the prefixes; what is gone already is no error."""
    objects = 0
    for number, prefix in enumerate(request.prefixes):
        progress(f"delete {prefix}", 100 * number // len(request.prefixes))
        objects += store.delete_prefix(prefix)
    return DeleteDataResult(objects=objects)
