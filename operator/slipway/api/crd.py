"""CustomResourceDefinitions from the typed models: pydantic's JSON schema, made structural.

A structural schema has a type at every node, no references and no alternatives, so optional values lose their `null`,
referenced models stand in place, and what pydantic does not know (rules, list types, bounds of nested defaults) comes
from the models' own marks.

``python -m slipway.api.crd --write`` writes everything that is generated from the models; ``--check`` fails on drift.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from slipway.api.meta import GROUP, VERSION, ApiModel, Column, Resource

Schema = dict[str, Any]

_ORDER = (
    "description",
    "type",
    "format",
    "default",
    "enum",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "required",
    "properties",
    "items",
    "additionalProperties",
    "x-kubernetes-validations",
)
"""Every keyword that a schema may have, in the order of the generated files."""

INT32_MAX = 2**31 - 1


class _Generator(GenerateJsonSchema):
    """Pydantic's generator without null, titles and constants, and with the models' rules and nested defaults."""

    def sort(self, value: JsonSchemaValue, parent_key: str | None = None) -> JsonSchemaValue:  # noqa: ARG002
        """As declared: people read the fields in that order."""
        return value

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default") is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False

    def literal_schema(self, schema: core_schema.LiteralSchema) -> JsonSchemaValue:
        result = super().literal_schema(schema)
        if "const" in result:
            result["enum"] = [result.pop("const")]
        return result

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        result = super().model_schema(schema)
        result.pop("title", None)
        model = schema["cls"]
        result["description"] = inspect.cleandoc(model.__doc__ or "")
        if model.rules:
            result["x-kubernetes-validations"] = [dict(rule) for rule in model.rules]
        for name, field in model.model_fields.items():
            nested = field.default_factory() if field.default_factory is not None else None
            # Defaults below an object only apply when it is there; so it is there by default, with all of them, for
            # rules are evaluated on a default before it is filled.
            if isinstance(nested, ApiModel) and (content := _without_empty(nested.wire())):
                result["properties"][field.alias or name]["default"] = content
        return result


def _without_empty(value: dict[str, Any]) -> dict[str, Any]:
    """The object without empty lists and maps, which say no more than absence."""
    return {key: item for key, item in value.items() if item not in ([], {})}


def structural_schema(model: type[ApiModel]) -> Schema:
    """The structural OpenAPI v3 schema of a model."""
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _inline(raw, raw.get("$defs", {}))


def _inline(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """The schema with references replaced by what they name, below it too, and its keywords in order."""
    if "$ref" in node:
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        node = target | {key: value for key, value in node.items() if key != "$ref"}
    node = {key: value for key, value in node.items() if key != "$defs"}
    if node.get("type") == "integer" and "enum" not in node:
        node["format"] = "int32" if node.get("maximum", INT32_MAX + 1) <= INT32_MAX else "int64"
    if "properties" in node:
        node["properties"] = {name: _inline(value, definitions) for name, value in node["properties"].items()}
    for key in ("items", "additionalProperties"):
        if key in node:
            node[key] = _inline(node[key], definitions)
    unknown = node.keys() - set(_ORDER)
    if unknown:
        raise ValueError(f"a structural schema has no {', '.join(sorted(unknown))}: {node}")
    return {key: node[key] for key in _ORDER if key in node}


def part(kind: type[Resource], name: Literal["spec", "status"]) -> type[ApiModel]:
    """The model of a kind's spec or status."""
    model = kind.model_fields[name].annotation
    assert isinstance(model, type)
    assert issubclass(model, ApiModel)
    return model


@cache
def root_schema(kind: type[Resource]) -> Schema:
    """The schema of whole objects of a kind. It is shared: do not change it."""
    return {
        "description": inspect.cleandoc(kind.__doc__ or ""),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {
                "description": f"Version of the API: {GROUP}/{VERSION}.",
                "type": "string",
                "maxLength": 64,
            },
            "kind": {"description": f"{kind.kind_name}.", "type": "string", "maxLength": 64},
            "metadata": {"type": "object"},
            "spec": structural_schema(part(kind, "spec")),
            "status": structural_schema(part(kind, "status")),
        },
        "x-kubernetes-validations": [dict(kind.names)],
    }


def crd(kind: type[Resource]) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    names: dict[str, Any] = {
        "kind": kind.kind_name,
        "listKind": f"{kind.kind_name}List",
        "plural": kind.plural,
        "singular": kind.kind_name.lower(),
        "categories": ["mlops"],
    }
    if kind.short_names:
        names["shortNames"] = list(kind.short_names)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "slipway"}},
        "spec": {
            "group": GROUP,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": json.loads(json.dumps(root_schema(kind)))},
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    out: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.priority:
        out["priority"] = column.priority
    if column.description:
        out["description"] = column.description
    return out


def main(arguments: list[str] | None = None) -> int:
    """Write or check the generated files; 1 when the check finds drift."""
    from slipway.api import generate

    parser = argparse.ArgumentParser(prog="python -m slipway.api.crd", description=main.__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="write every generated file")
    what.add_argument("--check", action="store_true", help="fail when a generated file is missing or stale")
    parser.add_argument("--root", type=Path, default=generate.ROOT, help="the repository (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.write:
        generate.write(options.root)
        return 0
    drift = generate.drift(options.root)
    for line in drift:
        print(line, file=sys.stderr)
    return 1 if drift else 0


if __name__ == "__main__":
    sys.exit(main())
