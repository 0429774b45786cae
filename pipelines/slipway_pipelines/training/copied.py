"""`copy-pipeline`: keeps the team's own pipeline, which an init container copied out of an image."""

from __future__ import annotations

import stat
from pathlib import Path

from slipway.api.reasons import Reason
from slipway.contracts.jobs import CopyPipelineRequest, CopyPipelineResult
from slipway.contracts.pipelines import LIMIT
from slipway_pipelines.errors import OutageError, RefusalError
from slipway_pipelines.store import ObjectStore, ProgressWriter


def run_copy_pipeline(request: CopyPipelineRequest, store: ObjectStore, progress: ProgressWriter) -> CopyPipelineResult:
    """Writes the file beside the request. RefusalError where it is no file, or larger than a pipeline may be."""
    progress("keep the pipeline", 0)
    key = f"{request.prefix}pipeline.yaml"
    store.put_bytes(key, _content(request), "application/yaml")
    return CopyPipelineResult(key=key)


def _content(request: CopyPipelineRequest) -> bytes:
    """Its bytes. The image's `cp` may be anything, so a link is not followed: this process has credentials."""
    what = f"spec.pipeline.image.path: {request.path} of image {request.image}"
    try:
        found = Path(request.file).lstat()
        if not stat.S_ISREG(found.st_mode):
            raise RefusalError(Reason.InvalidPipeline, f"{what} is no file: name the YAML file.")
        if found.st_size > LIMIT:
            raise RefusalError(
                Reason.InvalidPipeline,
                f"{what} has {found.st_size} bytes, and a pipeline may have {LIMIT}: move data out of it.",
            )
        # Its writer has ended before this process began, so nobody exchanges it now.
        return Path(request.file).read_bytes()
    except PermissionError:
        raise RefusalError(
            Reason.InvalidPipeline, f"{what} may not be read by others: build the image with a file of mode 0644."
        ) from None
    except FileNotFoundError:
        raise OutageError(f"{request.file} is not there: the container that copies it wrote nothing") from None
