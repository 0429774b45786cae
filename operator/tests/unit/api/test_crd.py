"""The generated CRDs: structural, bounded, described, and the same as the files in the repository."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.api import KINDS, KindInfo, kind_named
from slipway.api.crd import Schema, crd, main, part, root_schema, structural_schema
from slipway.api.generate import ROOT, drift, generated, write
from slipway.api.meta import ApiModel
from slipway.api.reference import FieldRow, example, fields, rules

FULL = Path(__file__).parent / "full"
BY_KIND = [pytest.param(kind, id=kind.kind_name) for kind in KINDS]


def nodes(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every schema below one, itself included."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}.{key}")


def test_generated_files_are_up_to_date() -> None:
    assert drift(ROOT) == []


@pytest.mark.slow
def test_drift_is_found_and_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    assert main(["--check", "--root", str(tmp_path)]) == 0
    (tmp_path / "crds/slipway.dev_datasets.yaml").write_text("edited")
    (tmp_path / "crds/slipway.dev_formerkinds.yaml").write_text("left behind")
    (tmp_path / "docs/reference/dataset.md").unlink()
    assert main(["--check", "--root", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    for sentence in (
        "crds/slipway.dev_datasets.yaml is stale",
        "slipway.dev_formerkinds.yaml is superfluous",
        "docs/reference/dataset.md is missing",
    ):
        assert sentence in said
    assert main(["--write", "--root", str(tmp_path)]) == 0
    assert drift(tmp_path) == []


@pytest.mark.parametrize("kind", BY_KIND)
def test_every_property_has_a_description_and_every_value_a_bound(kind: KindInfo) -> None:
    schema = root_schema(kind)
    missing = [row.path for row in fields(schema) if row.path != "metadata" and not row.schema.get("description")]
    assert missing == []
    unbounded = []
    for path, node in nodes(schema, kind.kind_name):
        if path.endswith(".metadata"):
            continue
        bound = {
            "string": "maxLength",
            "array": "maxItems",
            "object": "maxProperties" if "additionalProperties" in node else "properties",
            "integer": "format",
            "boolean": "type",
            None: "maxLength",
        }[node.get("type")]
        if bound not in node and "enum" not in node:
            unbounded.append(path)
    assert unbounded == []


@pytest.mark.parametrize("kind", BY_KIND)
def test_every_list_says_how_it_merges(kind: KindInfo) -> None:
    lists = [(path, node) for path, node in nodes(root_schema(kind), "") if node.get("type") == "array"]
    assert [path for path, node in lists if "x-kubernetes-list-type" not in node] == []
    for path, node in lists:
        for key in node.get("x-kubernetes-list-map-keys", ()):
            has_default = "default" in node["items"]["properties"][key]
            assert has_default or key in node["items"]["required"], f"{path} is merged by {key}, which may be missing"


@pytest.mark.parametrize("kind", BY_KIND)
def test_crds_stay_small(kind: KindInfo) -> None:
    """Client-side apply stores the object, as JSON, in an annotation of at most 256 KiB."""
    text = yaml.safe_dump(crd(kind))
    assert len(json.dumps(crd(kind))) < 128 * 1024
    assert "&id" not in text  # anchors are hard to read in a diff


def test_names_do_not_clash() -> None:
    names = [name for kind in KINDS for name in (kind.plural, kind.kind_name.lower(), *kind.short_names)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", BY_KIND)
def test_examples_are_short_and_valid(kind: KindInfo) -> None:
    text = example(kind.kind_name)
    obj = yaml.safe_load(text)
    assert obj["kind"] == kind.kind_name
    kind.model_validate(obj)
    if not kind.operator_only:
        assert len(text.splitlines()) < 15


@pytest.mark.parametrize("kind", BY_KIND)
def test_full_objects_set_every_field(kind: KindInfo) -> None:
    """They are the base of the bad inputs that a real API server must refuse: what they lack is not tried."""
    tried: set[str] = set()
    for obj in yaml.safe_load_all((FULL / f"{kind.kind_name.lower()}.yaml").read_text()):
        kind.model_validate(obj)
        tried |= set(paths_set(obj, root_schema(kind)))
    declared = {row.path for row in fields(root_schema(kind))}
    assert declared - tried == set()


def paths_set(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Paths of the schema's properties that an object sets."""
    for name, child in schema.get("properties", {}).items():
        if name in value:
            here = f"{path}.{name}" if path else name
            yield here
            yield from paths_set(value[name], child, here)
    if "items" in schema:
        for item in value:
            yield from paths_set(item, schema["items"], f"{path}[]")


@pytest.mark.parametrize("name", ["DatasetVersion", "ModelVersion"])
def test_records_keep_every_field_but_the_deletion_policy(name: str) -> None:
    spec = part(kind_named(name), "spec")
    (rule,) = spec.rules
    properties = {field.alias or key for key, field in spec.model_fields.items()}
    kept = {each for each in properties if f"self.{each} == oldSelf.{each}" in rule["rule"]}
    assert properties - kept == {"deletionPolicy"}


@pytest.mark.parametrize("kind", BY_KIND)
def test_the_reference_page_names_every_field_and_rule(kind: KindInfo) -> None:
    page = generated()[Path(f"docs/reference/{kind.kind_name.lower()}.md")]
    schema = root_schema(kind)
    rows: list[FieldRow] = [row for row in fields(schema) if row.path.startswith(("spec.", "status."))]
    assert [row.path for row in rows if f"| `{row.path}` |" not in page] == []
    assert [row.message for row in rules(schema) if row.message not in page] == []
    assert "**Operator only**" in page or not kind.operator_only


def test_the_chart_has_every_crd_behind_its_switch() -> None:
    files = generated()
    for kind in KINDS:
        template = files[Path(f"charts/slipway/templates/crds/slipway.dev_{kind.plural}.yaml")]
        assert "{{- if .Values.crds.install }}\n" in template
        assert "helm.sh/resource-policy: keep" in template
        # Without the lines of the template language it is the CRD.
        plain = "\n".join(line for line in template.splitlines() if "{{" not in line)
        loaded = yaml.load(plain, yaml.CSafeLoader)
        loaded["metadata"].pop("annotations")
        assert loaded == crd(kind)


def test_what_is_not_structural_is_refused() -> None:
    class Loose(ApiModel):
        """Has an alternative that no structural schema can say."""

        value: int | list[int]

    with pytest.raises(ValueError, match="no anyOf"):
        structural_schema(Loose)
