"""YAML files as Kubernetes reads them, with the position of every value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from slipway.lint.findings import FieldPath, Finding, Problem

SUFFIXES = (".yaml", ".yml", ".json")

Position = tuple[int, int]
"""Line and column, from 1."""


class _Loader(yaml.SafeLoader):
    """YAML with the scalars that kubectl knows: dates stay strings, `1e3` is a number, `1:30` is not."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("timestamp", "int", "float")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(0b[01]+|0[0-7]+|0x[0-9a-fA-F]+|0|[1-9][0-9]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Document:
    """One object of a file."""

    file: str
    value: dict[str, Any]
    positions: dict[FieldPath, Position]
    """Where values are."""
    keys: dict[FieldPath, Position]
    """Where property names are."""
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with the YAML itself, such as a key that stands twice."""

    def place(self, problem: Problem) -> Finding:
        """The problem with its position: that of the value, or of the nearest part that is there."""
        path = problem.path
        position = self.keys.get(path) if problem.key else None
        while position is None:
            position = self.positions.get(path)
            if not path:
                break
            path = path[:-1]
        line, column = position or (1, 1)
        return Finding(self.file, line, column, problem.severity, problem.code, problem.message)

    @property
    def kind(self) -> str:
        return str(self.value.get("kind", ""))

    @property
    def api_version(self) -> str:
        return str(self.value.get("apiVersion", ""))

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata; empty when it is none."""
        found = self.value.get("metadata")
        return found if isinstance(found, dict) else {}


@dataclass
class _Builder:
    """Turns nodes into values and notes where they were."""

    loader: _Loader
    positions: dict[FieldPath, Position] = field(default_factory=dict)
    keys: dict[FieldPath, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def build(self, node: yaml.Node, path: FieldPath) -> Any:
        self.positions[path] = _position(node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: FieldPath) -> dict[str, Any]:
        written = [str(key.value) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        self.loader.flatten_mapping(node)
        out: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a property's name must be text; is this a template?", problem_mark=key_node.start_mark
                )
            key = str(key_node.value)
            here = (*path, key)
            if written.count(key) > 1 and key in out:
                self.problems.append(Problem(here, "yaml", f"{key} stands twice in the same object", key=True))
            self.keys[here] = _position(key_node)
            out[key] = self.build(value_node, here)
        return out


def _position(node: yaml.Node) -> Position:
    return node.start_mark.line + 1, node.start_mark.column + 1


def read(path: Path, name: str) -> Iterator[Document | Finding]:
    """Every object of a file, those of a `List` one by one; a Finding where the file cannot be read.

    `name` is how the file is called in findings.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        yield Finding(name, 1, 1, "error", "yaml", f"the file cannot be read: {error}")
        return
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None
            builder = _Builder(loader)
            value = builder.build(node, ())
            yield from _objects(name, value, builder)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        yield Finding(name, line, column, "error", "yaml", f"this is no YAML: {what}")
    finally:
        loader.dispose()


def _objects(name: str, value: Any, builder: _Builder) -> Iterator[Document | Finding]:
    if value is None:
        return
    line, column = builder.positions[()]
    if not isinstance(value, dict):
        yield Finding(name, line, column, "error", "yaml", "a Kubernetes object has properties; this has none")
    elif value.get("kind") == "List" and isinstance(value.get("items"), list):
        for index, item in enumerate(value["items"]):
            if isinstance(item, dict):
                yield _part(name, item, builder, ("items", index))
    else:
        yield Document(name, value, builder.positions, builder.keys, builder.problems)


def _part(name: str, value: dict[str, Any], builder: _Builder, root: FieldPath) -> Document:
    def below(places: dict[FieldPath, Position]) -> dict[FieldPath, Position]:
        return {path[len(root) :]: place for path, place in places.items() if path[: len(root)] == root}

    problems = [
        Problem(each.path[len(root) :], each.code, each.message, each.severity, each.key)
        for each in builder.problems
        if each.path[: len(root)] == root
    ]
    return Document(name, value, below(builder.positions), below(builder.keys), problems)


def files_of(paths: list[Path]) -> list[Path]:
    """The files themselves, and every YAML or JSON file below folders; hidden folders are left out."""
    out: list[Path] = []
    for path in paths:
        if path.is_dir():
            out += sorted(
                each
                for each in path.rglob("*")
                if each.suffix in SUFFIXES
                and each.is_file()
                and not any(part.startswith(".") for part in each.relative_to(path).parts)
            )
        else:
            out.append(path)
    return list(dict.fromkeys(out))
