"""The objects of all files, by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from slipway.api.meta import Resource
from slipway.lint.documents import Document
from slipway.lint.findings import FieldPath, Problem, did_you_mean, dotted

R = TypeVar("R", bound=Resource)


@dataclass
class Index:
    """The objects of all files by kind, namespace and name."""

    objects: dict[tuple[str, str, str], tuple[Document, Resource]] = field(default_factory=dict)
    broken: set[tuple[str, str, str]] = field(default_factory=set)
    """Objects that are there and have errors of their own, so that nothing is known of them but the name."""

    def add(self, document: Document, parsed: Resource) -> Problem | None:
        """Take an object in; a problem when it is there already."""
        kind = type(parsed).kind_name
        key = (kind, parsed.metadata.namespace or "", parsed.metadata.name)
        if key in self.objects:
            first = self.objects[key][0].file
            message = f"{kind} {parsed.metadata.name} is in {first} already: remove or rename one"
            return Problem(("metadata", "name"), "duplicate", message)
        self.objects[key] = (document, parsed)
        return None

    def add_broken(self, kind: type[Resource], document: Document) -> None:
        """Take note of an object with errors."""
        namespace = self._scope(kind, document.metadata.get("namespace"))
        self.broken.add((kind.kind_name, namespace, str(document.metadata.get("name"))))

    def all(self, model: type[R]) -> Iterator[tuple[Document, R]]:
        """Every object of a kind."""
        for document, parsed in self.objects.values():
            if isinstance(parsed, model):
                yield document, parsed

    def find(self, model: type[R], namespace: str | None, name: str) -> R | None:
        """One object, or None."""
        _, parsed = self.objects.get((model.kind_name, self._scope(model, namespace), name), (None, None))
        return parsed if isinstance(parsed, model) else None

    def missing(self, model: type[Resource], namespace: str | None, name: str, path: FieldPath) -> Problem | None:
        """The problem of a name that is not found; None for an object that has errors of its own."""
        scope = self._scope(model, namespace)
        if (model.kind_name, scope, name) in self.broken:
            return None
        others = [key[2] for key in (*self.objects, *self.broken) if key[:2] == (model.kind_name, scope)]
        where = f" in namespace {scope}" if scope else ""
        message = f"{dotted(path)}: there is no {model.kind_name} {name}{where} in these files"
        if others:
            return Problem(path, "reference", message + did_you_mean(name, others))
        return Problem(path, "reference", f"{message}; it must be in the cluster", "warning")

    @staticmethod
    def _scope(model: type[Resource], namespace: str | None) -> str:
        return (namespace or "") if model.namespaced else ""


def resolve(
    index: Index, owner: Resource, model: type[R], name: str, path: FieldPath, problems: list[Problem]
) -> R | None:
    """An object that `owner` names; noted in `problems` when there is none."""
    found = index.find(model, owner.metadata.namespace, name)
    if found is None:
        missing = index.missing(model, owner.metadata.namespace, name, path)
        problems += [missing] if missing else []
    return found
