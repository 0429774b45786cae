"""Why a file could not be copied out of an image, as a Job's pods say it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slipway.adapters.jobs import COPY_CONTAINER, COPY_FAILED, COPY_LIMIT, FileCopy
from slipway.adapters.jobstate import JobState
from slipway.api.reasons import Reason

_NO_COMMAND = re.compile(r"executable file .{0,40}not found")
"""What container runtimes say of a command that is not in an image; before they start it, or instead."""
_MAX_DETAIL = 300


def never_copied(field: str, copy: FileCopy, state: JobState, pods: Sequence[Mapping[str, Any]]) -> str:
    """Why it never will be, with field, value and remedy; empty while it may.

    :param field: of the spec, which has `name` and `path`
    """
    for pod in pods:
        code, words = _said(pod)
        if code != COPY_FAILED and _NO_COMMAND.search(words):
            return (
                f"{field}.name: image {copy.image} has no command cp, by which {copy.path} is copied out of it: build "
                "it from an image that has one, such as busybox, or set type S3."
            )
        if code == COPY_FAILED and "No space left" in words:
            return f"{field}.path: {copy.path} of image {copy.image} is larger than {COPY_LIMIT}: move data out of it."
        if code == COPY_FAILED:
            return _failed(field, copy, f" ({_cut(words)})" if words else "")
    # The Job itself ends with nothing but a result, so this is what its rule for the copy did, and the pod is gone.
    if state.phase == "Failed" and state.reason == Reason.TrainingCodeFailed:
        return _failed(field, copy, "")
    return ""


def _failed(field: str, copy: FileCopy, detail: str) -> str:
    return (
        f"{field}.path: {copy.path} cannot be copied out of image {copy.image}{detail}: correct the path, or build the "
        "image with a file there that everybody may read."
    )


def _said(pod: Mapping[str, Any]) -> tuple[int | None, str]:
    """Exit code of the container that copies, None where it did not end; and the runtime's words, or its own."""
    for container in (pod.get("status") or {}).get("initContainerStatuses") or ():
        if container.get("name") == COPY_CONTAINER:
            state = container.get("state") or {}
            told = state.get("terminated") or state.get("waiting") or {}
            return told.get("exitCode"), " ".join(str(told.get("message") or "").split())
    return None, ""


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_DETAIL else text[: _MAX_DETAIL - 1] + "…"
