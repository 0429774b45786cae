"""All checks in order: files, objects one by one, then objects together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway.api import KINDS, KindInfo
from slipway.api.crd import root_schema
from slipway.api.meta import API_VERSION, GROUP
from slipway.lint.documents import Document, files_of, read
from slipway.lint.findings import Finding, Problem, did_you_mean
from slipway.lint.index import Index
from slipway.lint.references import reference_problems
from slipway.lint.rules import rule_problems
from slipway.lint.schema import prepared, schema_problems

_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_BY_NAME = {kind.kind_name: kind for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, in the order of files and lines, and how much was looked at."""

    findings: tuple[Finding, ...]
    files: int
    objects: int

    @property
    def errors(self) -> int:
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        return len(self.findings) - self.errors


def lint(paths: Sequence[Path]) -> Report:
    """Check files and folders. Objects of other groups are passed over."""
    findings: list[Finding] = []
    index = Index()
    objects = 0
    files = files_of(list(paths))
    for path in files:
        for document in read(path, str(path)):
            if isinstance(document, Finding):
                findings.append(document)
            elif document.api_version.partition("/")[0] == GROUP:
                objects += 1
                findings += [document.place(problem) for problem in _document(document, index)]
    findings += [document.place(problem) for document, problem in reference_problems(index)]
    return Report(tuple(sorted(set(findings))), len(files), objects)


def _document(document: Document, index: Index) -> Iterator[Problem]:
    yield from document.problems
    kind = _BY_NAME.get(document.kind)
    if document.api_version != API_VERSION:
        yield Problem(("apiVersion",), "api-version", f"{document.api_version} is not served: use {API_VERSION}")
        return
    if kind is None:
        hint = did_you_mean(document.kind, _BY_NAME) or f": there are {', '.join(_BY_NAME)}"
        yield Problem(("kind",), "kind", f"{API_VERSION} has no kind {document.kind or '(none)'}{hint}")
        return
    problems = list(object_problems(document.value, kind))
    yield from problems
    if kind.operator_only:
        message = f"only the operator writes a {kind.kind_name}: the cluster refuses it from people"
        yield Problem(("kind",), "operator-only", message, "warning")
    if any(problem.severity == "error" and problem.code != "unknown-field" for problem in problems):
        index.add_broken(kind, document)
    else:
        parsed = kind.model_validate(prepared(document.value, root_schema(kind)))
        duplicate = index.add(document, parsed)
        if duplicate:
            yield duplicate


def object_problems(obj: dict[str, Any], kind: KindInfo, old: dict[str, Any] | None = None) -> Iterator[Problem]:
    """What the API server would say about one object; with `old`, about changing it into `obj`."""
    schema = root_schema(kind)
    ready = prepared(obj, schema)
    problems = [*_metadata(ready, kind), *schema_problems(ready, kind)]
    if not problems:
        problems += rule_problems(ready, kind, None if old is None else prepared(old, schema))
    yield from problems


def _metadata(obj: dict[str, Any], kind: KindInfo) -> Iterator[Problem]:
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        yield Problem(("metadata",), "required", "metadata.name is missing")
        return
    name = metadata.get("name")
    if not name:
        yield Problem(("metadata", "name"), "required", "metadata.name is missing")
    elif not isinstance(name, str) or len(name) > 253 or not _OBJECT_NAME.fullmatch(name):
        message = f"metadata.name {name!r} must be lower-case letters, digits, '-' and '.', as in a host name"
        yield Problem(("metadata", "name"), "name", message)
    if metadata.get("namespace") and not kind.namespaced:
        message = f"a {kind.kind_name} belongs to the whole cluster: remove metadata.namespace"
        yield Problem(("metadata", "namespace"), "namespace", message, key=True)
