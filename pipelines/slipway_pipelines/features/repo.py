"""`python -m slipway_pipelines.features.repo --from DIR --out DIR`: FeatureSets as an ordinary Feast repository.

The repository works by itself: `feast apply` in it registers what the `features` Job registers. `--check` writes
nothing, and fails when the repository is not what the FeatureSets say.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import yaml
from pydantic import ValidationError

from slipway.api.featureset import FeatureSet, View
from slipway.api.meta import API_VERSION, parse_duration
from slipway_pipelines.features.definitions import Names, feature_tags, view_description, view_owner
from slipway_pipelines.features.naming import feast_entity, feast_view
from slipway_pipelines.features.values import CREATED_TIMESTAMP, EVENT_TIMESTAMP

DTYPE = {"Double": "Float64", "Integer": "Int64", "String": "String", "Boolean": "Bool"}
VALUE_TYPE = {"String": "STRING", "Integer": "INT64"}
GENERATED = "Generated from FeatureSets by `python -m slipway_pipelines.features.repo`"


class RepositoryError(Exception):
    """The FeatureSets cannot become a repository; `str()` is a sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the repository, or compares it; exit code 1 with a sentence when that fails."""
    parser = argparse.ArgumentParser(prog="slipway_pipelines.features.repo", description="A Feast repository.")
    parser.add_argument("--from", dest="source", type=Path, required=True, help="folder with YAML of FeatureSets")
    parser.add_argument("--out", type=Path, required=True, help="folder of the repository")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when it is not up to date")
    arguments = parser.parse_args(argv)
    try:
        files = repository(read_feature_sets(arguments.source))
        if arguments.check:
            _compare(files, arguments.out)
        else:
            _write(files, arguments.out)
    except RepositoryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def read_feature_sets(folder: Path) -> list[FeatureSet]:
    """Every FeatureSet in the YAML files below a folder, by name. RepositoryError when one is malformed."""
    found = [feature_set for path in sorted(folder.rglob("*.yaml")) for feature_set in _read(path)]
    if not found:
        raise RepositoryError(f"{folder} has no FeatureSet: name a folder with YAML of kind FeatureSet.")
    return sorted(found, key=lambda item: item.metadata.name)


def _read(path: Path) -> Iterator[FeatureSet]:
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except yaml.YAMLError as error:
        raise RepositoryError(f"{path} is not YAML: {error}") from None
    for document in documents:
        if not isinstance(document, dict) or document.get("kind") != "FeatureSet":
            continue
        if document.get("apiVersion") != API_VERSION:
            raise RepositoryError(f"{path}: FeatureSet has apiVersion {document.get('apiVersion')}, not {API_VERSION}.")
        try:
            yield FeatureSet.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RepositoryError(f"{path}: {where}: {first['msg']}.") from None


def repository(feature_sets: Sequence[FeatureSet]) -> dict[str, str]:
    """The files of the repository: content by path. RepositoryError when they belong to several ModelProjects."""
    owners = sorted({(item.metadata.namespace or "default", item.spec.project_ref.name) for item in feature_sets})
    if len(owners) > 1:
        listed = ", ".join("/".join(owner) for owner in owners)
        raise RepositoryError(f"The FeatureSets are of several ModelProjects ({listed}): make a repository for each.")
    project = owners[0][1].replace("-", "_").replace(".", "_")
    files = {
        ".feastignore": "data\n",
        "feature_store.yaml": _local_config(project),
        "feature_store.postgres.yaml": _postgres_config(),
    }
    for feature_set in feature_sets:
        name = feature_set.metadata.name.replace("-", "_").replace(".", "_")
        files[f"{name}.py"] = _module(feature_set, project)
    return files


def _local_config(project: str) -> str:
    return f"""\
# {GENERATED}.
# Everything in files here: `feast apply`.
project: {project}
provider: local
registry: data/registry.db
online_store:
  type: sqlite
  path: data/online.db
entity_key_serialization_version: 3
"""


def _postgres_config() -> str:
    return f"""\
# {GENERATED}.
# The platform's Feast: `feast -f feature_store.postgres.yaml apply`, with libpq's variables PGHOST, PGPORT, PGDATABASE,
# PGUSER and PGPASSWORD, and FEAST_PROJECT from `kubectl get featureset NAME -o jsonpath='{{.status.feastProject}}'`.
project: ${{FEAST_PROJECT}}
provider: local
registry:
  registry_type: sql
  path: postgresql+psycopg://
online_store:
  type: postgres
  host: ${{PGHOST}}
  port: ${{PGPORT}}
  database: ${{PGDATABASE}}
  user: ${{PGUSER}}
  password: "${{PGPASSWORD}}"
  sslmode: prefer
entity_key_serialization_version: 3
"""


def _module(feature_set: FeatureSet, project: str) -> str:
    """Python that defines the Feast objects of one FeatureSet, formatted as `ruff format` does at 120 columns."""
    spec, meta = feature_set.spec, feature_set.metadata
    names = Names(project, meta.namespace or "default", meta.name)
    used = sorted(
        {DTYPE[feature.type] for view in spec.views for feature in view.features}
        | {DTYPE[entity.type] for entity in spec.entities}
    )
    blocks = [
        f'"""Feast definitions of FeatureSet {meta.name}.\n\n{GENERATED}: change those instead.\n"""',
        "from __future__ import annotations",
        "import os\nfrom datetime import timedelta",
        "from feast import Entity, FeatureView, Field, FileSource, ValueType\n"
        f"from feast.types import {', '.join(used)}",
        f"# Where values are: a folder, or `s3://BUCKET/features/{names.namespace}` with SLIPWAY_S3_ENDPOINT.\n"
        'VALUES = os.environ.get("SLIPWAY_FEATURE_VALUES", "data")\n'
        'ENDPOINT = os.environ.get("SLIPWAY_S3_ENDPOINT") if VALUES.startswith("s3://") else None\n'
        f"TAGS = {_dict(names.tags)}",
    ]
    blocks += [
        _assign(
            f"{entity.name}_entity",
            "Entity",
            [
                ("name", _text(feast_entity(meta.name, entity.name))),
                ("join_keys", f"[{_text(entity.name)}]"),
                ("value_type", f"ValueType.{VALUE_TYPE[entity.type]}"),
                ("description", _text(entity.description or "")),
                ("tags", "TAGS"),
            ],
        )
        for entity in spec.entities
    ]
    types = {entity.name: DTYPE[entity.type] for entity in spec.entities}
    for view in spec.views:
        blocks += [_source(view, names), _view(view, names, types)]
    return "\n\n".join(blocks) + "\n"


def _source(view: View, names: Names) -> str:
    return _assign(
        f"{view.name}_source",
        "FileSource",
        [
            ("name", _text(feast_view(names.project, names.feature_set, view.name))),
            ("path", f'f"{{VALUES}}/{names.feature_set}/latest/{view.name}.parquet"'),
            ("s3_endpoint_override", "ENDPOINT"),
            ("timestamp_field", _text(EVENT_TIMESTAMP)),
            ("created_timestamp_column", _text(CREATED_TIMESTAMP)),
            ("tags", "TAGS"),
        ],
    )


def _view(view: View, names: Names, types: dict[str, str]) -> str:
    fields = [_call("Field", [("name", _text(key)), ("dtype", types[key])], 8) for key in view.entities]
    for feature in view.features:
        arguments = [("name", _text(feature.name)), ("dtype", DTYPE[feature.type])]
        if feature.description:
            arguments.append(("description", _text(feature.description)))
        if tags := feature_tags(feature):
            arguments.append(("tags", _dict(tags)))
        fields.append(_call("Field", arguments, 8))
    schema = "[\n" + "".join(f"        {field},\n" for field in fields) + "    ]"
    return _assign(
        f"{view.name}_view",
        "FeatureView",
        [
            ("name", _text(feast_view(names.project, names.feature_set, view.name))),
            ("entities", f"[{', '.join(f'{entity}_entity' for entity in view.entities)}]"),
            ("schema", schema),
            ("source", f"{view.name}_source"),
            ("ttl", _timedelta(parse_duration(view.ttl))),
            ("tags", "TAGS"),
            ("owner", _text(view_owner(view))),
            ("description", _text(view_description(view))),
        ],
        exploded=True,
    )


def _assign(target: str, function: str, arguments: list[tuple[str, str]], *, exploded: bool = False) -> str:
    return f"{target} = " + _call(function, arguments, 0, taken=len(target) + 3, exploded=exploded)


def _call(
    function: str, arguments: list[tuple[str, str]], indent: int, *, taken: int = 0, exploded: bool = False
) -> str:
    """A call on one line where it fits 120 columns, else an argument a line."""
    flat = f"{function}({', '.join(f'{key}={value}' for key, value in arguments)})"
    if not exploded and "\n" not in flat and indent + taken + len(flat) + (1 if indent else 0) <= 120:
        return flat
    pad = " " * (indent + 4)
    return f"{function}(\n" + "".join(f"{pad}{key}={value},\n" for key, value in arguments) + " " * indent + ")"


def _dict(value: dict[str, str]) -> str:
    return "{" + ", ".join(f"{_text(key)}: {_text(item)}" for key, item in value.items()) + "}"


def _text(value: str) -> str:
    """A string literal, in the quotes that need no escapes where there are such."""
    return repr(value) if '"' in value and "'" not in value else json.dumps(value, ensure_ascii=False)


def _timedelta(duration: timedelta) -> str:
    """The call with the largest unit that is whole."""
    for unit, length in (("hours", timedelta(hours=1)), ("seconds", timedelta(seconds=1))):
        if duration % length == timedelta():
            return f"timedelta({unit}={duration // length})"
    return f"timedelta(milliseconds={duration // timedelta(milliseconds=1)})"


def _write(files: dict[str, str], folder: Path) -> None:
    """Writes the files, and removes modules that a repository of before had."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in _generated(folder):
        if path.name not in files:
            path.unlink()
    for name, content in files.items():
        (folder / name).write_text(content)


def _compare(files: dict[str, str], folder: Path) -> None:
    """RepositoryError that names the files which differ."""
    stale = [name for name, content in files.items() if not (folder / name).is_file()]
    stale += [name for name in files if name not in stale and (folder / name).read_text() != files[name]]
    stale += [path.name for path in _generated(folder) if path.name not in files]
    if stale:
        raise RepositoryError(
            f"{folder} is not what the FeatureSets say ({', '.join(sorted(stale))}): run this again without --check."
        )


def _generated(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.py")) if GENERATED in path.read_text()]


if __name__ == "__main__":
    sys.exit(main())
