"""Pipelines and their versions, which are uploaded as files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from kfp_server_api.models import (
    V2beta1ListPipelinesResponse,
    V2beta1ListPipelineVersionsResponse,
    V2beta1Pipeline,
    V2beta1PipelineVersion,
)

from kfpcontract import spec
from kfpcontract.database import Call, Database, Settings, VersionRow
from kfpcontract.listing import page_of
from kfpcontract.status import Refused, invalid, not_found

_NAME = re.compile(r"^[a-z0-9][-a-z0-9]*$")
_LONGEST_NAME = 128
_PIPELINE_FIELDS: Mapping[str, Callable[[V2beta1Pipeline], Any]] = {
    "id": lambda each: each.pipeline_id,
    "pipeline_id": lambda each: each.pipeline_id,
    "name": lambda each: each.name,
    "display_name": lambda each: each.display_name,
    "created_at": lambda each: each.created_at,
    "description": lambda each: each.description,
    "namespace": lambda each: each.namespace,
}
_VERSION_FIELDS: Mapping[str, Callable[[V2beta1PipelineVersion], Any]] = {
    "id": lambda each: each.pipeline_version_id,
    "pipeline_version_id": lambda each: each.pipeline_version_id,
    "name": lambda each: each.name,
    "display_name": lambda each: each.display_name,
    "created_at": lambda each: each.created_at,
    "description": lambda each: each.description,
}


class UploadRefused(Exception):
    """What the upload's handler answers, which is not the gateway's.

    :param status: HTTP status
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = json.dumps({"error_message": message, "error_details": message})


class Pipelines:
    """The pipeline service, and the handler of uploads."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    # Uploads

    async def upload_pipeline(self, call: Call) -> V2beta1Pipeline:
        """A pipeline and its first version, of the same name."""
        package = _package(call)
        try:
            name = _check_name(_name_of(call), spec.from_package(package))
            pipeline = self._make(name, _text(call, "display_name"), self._namespace(call), call)
            self._version(pipeline, name, pipeline.display_name, package, call)
        except Refused as refused:
            raise _as_upload(refused, "Failed to create a pipeline and a pipeline version") from refused
        return pipeline

    async def upload_pipeline_version(self, call: Call) -> V2beta1PipelineVersion:
        """One more version of a pipeline; its name must be new there."""
        package = _package(call)
        pipeline = self._database.pipelines.get(_text(call, "pipelineid"))
        if pipeline is None:
            raise UploadRefused(400, "Failed to create a pipeline version")
        try:
            _check_name(pipeline.name, spec.from_package(package))
            return self._version(pipeline, _name_of(call), _text(call, "display_name"), package, call)
        except Refused as refused:
            raise _as_upload(refused, "Failed to create a pipeline version") from refused

    # Pipelines

    async def pipeline_service_create_pipeline(self, call: Call) -> V2beta1Pipeline:
        wanted: V2beta1Pipeline = call.body
        name = wanted.name or wanted.display_name  # there was no name before there was a name for display
        if not name:
            raise invalid("name is required")
        namespace = (wanted.namespace or "") if self._settings.multi_user else ""
        return self._make(name, wanted.display_name or "", namespace, call, wanted)

    async def pipeline_service_get_pipeline(self, call: Call) -> V2beta1Pipeline:
        return self._of(call.places["pipeline_id"])

    async def pipeline_service_get_pipeline_by_name(self, call: Call) -> V2beta1Pipeline:
        namespace, name = self._namespace(call), call.places["name"]
        for each in self._database.pipelines.values():
            if each.name == name and (each.namespace or "") == namespace:
                return each
        raise not_found("Namespace/Pipeline", f"{namespace}/{name}")

    async def pipeline_service_list_pipelines(self, call: Call) -> V2beta1ListPipelinesResponse:
        namespace = self._namespace(call)
        rows = [each for each in self._database.pipelines.values() if (each.namespace or "") == namespace]
        found, total, token = page_of(rows, call, _PIPELINE_FIELDS)
        return V2beta1ListPipelinesResponse(pipelines=found, total_size=total, next_page_token=token)

    async def pipeline_service_delete_pipeline(self, call: Call) -> dict[str, Any]:
        """One with versions only with `cascade`."""
        pipeline = self._of(call.places["pipeline_id"])
        versions = self._versions_of(pipeline.pipeline_id)
        if versions and not call.query.get("cascade"):
            raise invalid(
                f"Failed to delete pipeline with id {pipeline.pipeline_id} as it has existing pipeline versions (e.g."
                f" {versions[-1].pipeline_version_id}). Set cascade=true to delete all versions"
            )
        for each in versions:
            del self._database.versions[each.pipeline_version_id]
        del self._database.pipelines[pipeline.pipeline_id]
        return {}

    # Versions

    async def pipeline_service_get_pipeline_version(self, call: Call) -> V2beta1PipelineVersion:
        return self.version_of(call.places["pipeline_version_id"]).version

    async def pipeline_service_list_pipeline_versions(self, call: Call) -> V2beta1ListPipelineVersionsResponse:
        rows = self._versions_of(call.places["pipeline_id"])
        found, total, token = page_of(rows, call, _VERSION_FIELDS)
        return V2beta1ListPipelineVersionsResponse(pipeline_versions=found, total_size=total, next_page_token=token)

    async def pipeline_service_delete_pipeline_version(self, call: Call) -> dict[str, Any]:
        """Runs of it stay."""
        del self._database.versions[self.version_of(call.places["pipeline_version_id"]).version.pipeline_version_id]
        return {}

    def version_of(self, version_id: str) -> VersionRow:
        """:raises Refused: NotFound"""
        found = self._database.versions.get(version_id)
        if found is None:
            raise not_found("PipelineVersion", version_id)
        return found

    def latest(self, pipeline_id: str) -> VersionRow:
        """The newest version of a pipeline. :raises Refused: NotFound"""
        versions = self._versions_of(pipeline_id)
        if not versions:
            raise not_found("PipelineVersion", pipeline_id)
        return self.version_of(versions[-1].pipeline_version_id)

    def _versions_of(self, pipeline_id: str) -> list[V2beta1PipelineVersion]:
        rows = self._database.versions.values()
        return [each.version for each in rows if each.version.pipeline_id == pipeline_id]

    def _of(self, pipeline_id: str) -> V2beta1Pipeline:
        found = self._database.pipelines.get(pipeline_id)
        if found is None:
            raise not_found("Pipeline", pipeline_id)
        return found

    def _namespace(self, call: Call) -> str:
        return _text(call, "namespace") if self._settings.multi_user else ""

    def _make(
        self, name: str, display_name: str, namespace: str, call: Call, wanted: V2beta1Pipeline | None = None
    ) -> V2beta1Pipeline:
        for each in self._database.pipelines.values():
            if each.name == name and (each.namespace or "") == namespace:
                raise Refused(
                    "AlreadyExists",
                    f"Failed to create a new pipeline. The name {name} already exists. Please specify a new name",
                )
        made = V2beta1Pipeline(
            pipeline_id=self._database.new_id(),
            name=name,
            display_name=display_name or name,
            description=wanted.description if wanted else _text(call, "description"),
            namespace=namespace,
            tags=wanted.tags if wanted else _tags(call),
            created_at=self._database.now(),
        )
        self._database.pipelines[made.pipeline_id] = made
        return made

    def _version(
        self, pipeline: V2beta1Pipeline, name: str, display_name: str, package: bytes, call: Call
    ) -> V2beta1PipelineVersion:
        if any(each.name == name for each in self._versions_of(pipeline.pipeline_id)):
            raise Refused(
                "AlreadyExists",
                f"Failed to create a new pipeline version. The name {name} already exist. Specify a new name",
            )
        made = V2beta1PipelineVersion(
            pipeline_id=pipeline.pipeline_id,
            pipeline_version_id=self._database.new_id(),
            name=name,
            display_name=display_name or name,
            description=_text(call, "description"),
            created_at=self._database.now(),
            pipeline_spec=spec.struct_of(package),
            tags=_tags(call),
        )
        self._database.versions[made.pipeline_version_id] = VersionRow(made, package)
        return made


def _package(call: Call) -> bytes:
    if call.file is None:
        raise UploadRefused(400, "Failed to read pipeline from file")
    name, content = call.file
    if not name.endswith((".yaml", ".yml", ".json")):  # archives are not played
        raise UploadRefused(400, "Failed to read a pipeline spec file")
    return content


def _name_of(call: Call) -> str:
    assert call.file is not None
    return _text(call, "name") or _text(call, "display_name") or call.file[0]


def _check_name(name: str, pipeline: Mapping[str, Any]) -> str:
    own = str(pipeline["pipelineInfo"]["name"])
    if len(own) > _LONGEST_NAME or not _NAME.match(own):
        raise invalid("pipeline's name must contain only lowercase alphanumeric characters or '-'")
    return name


def _as_upload(refused: Refused, what: str) -> UploadRefused:
    if refused.name == "InvalidArgument":
        return UploadRefused(400, refused.external)
    return UploadRefused(409 if refused.name == "AlreadyExists" else 500, what)


def _text(call: Call, name: str) -> str:
    return str(call.query.get(name) or "")


def _tags(call: Call) -> dict[str, str] | None:
    text = _text(call, "tags")
    try:
        return dict(json.loads(text)) if text else None
    except ValueError as error:
        raise UploadRefused(400, "Failed to parse tags query parameter. Expected JSON object") from error
