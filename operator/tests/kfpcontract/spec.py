"""What the API server demands of a pipeline and of its arguments before it makes anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import yaml

from kfpcontract.status import Refused, invalid

SCHEMA = "2.1.0"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KINDS: Mapping[str, tuple[type, ...]] = {
    "NUMBER_DOUBLE": (int, float),
    "NUMBER_INTEGER": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def from_struct(struct: Any) -> dict[str, Any]:
    """The pipeline of a run's `pipeline_spec`, which may have platform's things beside it."""
    if not isinstance(struct, dict):
        raise invalid("invalid v2 pipeline spec: no object")
    inner = struct.get("pipeline_spec", struct)
    return checked([inner, struct["platform_spec"]] if "platform_spec" in struct else [inner])


@lru_cache(64)
def _documents(package: bytes) -> list[Any]:
    """The documents of a file; nobody changes them."""
    try:
        return [each for each in yaml.load_all(package.decode(), yaml.CSafeLoader) if each is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise invalid(f"unable to decode yaml document: {error}") from error


def from_package(package: bytes) -> dict[str, Any]:
    """The pipeline of an uploaded file: YAML or JSON, perhaps with a second document for the platform."""
    return checked(_documents(package))


def struct_of(package: bytes) -> dict[str, Any]:
    """What the API shows of an uploaded file."""
    documents = _documents(package)
    pipelines = [each for each in documents if _is_pipeline(each)]
    platforms = [each for each in documents if not _is_pipeline(each)]
    spec: dict[str, Any] = json.loads(json.dumps(pipelines[0]))
    return {"pipeline_spec": spec, "platform_spec": platforms[0]} if platforms else spec


def checked(documents: Iterable[Any]) -> dict[str, Any]:
    """The one pipeline among documents. :raises Refused: InvalidArgument"""
    pipelines = [each for each in documents if _is_pipeline(each)]
    if not pipelines:
        raise invalid("no pipeline spec is provided")
    if len(pipelines) > 1:
        raise invalid("multiple pipeline specs provided")
    spec: dict[str, Any] = pipelines[0]
    if spec.get("schemaVersion") != SCHEMA:
        version = spec.get("schemaVersion")
        raise invalid(f"KFP only supports schema version 2.1.0, but the pipeline spec has version {version}")
    name = spec["pipelineInfo"].get("name") or ""
    if not _NAME.search(name):
        raise invalid("invalid v2 pipeline spec: name is empty")
    if not spec.get("root"):
        raise invalid("invalid v2 pipeline spec: root component is empty")
    return spec


def check_arguments(spec: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Whether a pipeline may be called with these parameters. :raises Refused: InvalidArgument"""
    declared = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    for name, parameter in declared.items():
        if name not in given:
            if not parameter.get("isOptional") and parameter.get("defaultValue") is None:
                raise invalid(
                    f"parameter {name} is not optional, yet has neither default value nor user provided value"
                )
            continue
        _check(name, parameter.get("parameterType", ""), given[name])
    extra = sorted(given.keys() - declared.keys())
    if extra:
        raise invalid(f"parameter(s) provided are not required by pipeline: {', '.join(extra)}")


def _check(name: str, kind: str, value: Any) -> None:
    if kind not in _KINDS:
        raise invalid(f"input parameter {name} requires type unknown")
    allowed = _KINDS[kind]
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise invalid(
            f"input parameter {name} requires type {kind.lower()}, but the input parameter is not of that type"
        )


def _is_pipeline(document: Any) -> bool:
    return isinstance(document, dict) and "pipelineInfo" in document


def as_internal(refused: Refused, what: str) -> Refused:
    """How a mistake of the request looks where the API server takes it for its own."""
    return Refused("Internal", "Internal Server Error", f"InternalServerError: {what}: {refused.message}")
