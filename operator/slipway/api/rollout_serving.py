"""How servers other than Slipway's own serve a version: formats, names and what KServe's runtimes are told."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from slipway.api.meta import ATOMIC_LIST, ApiModel, Uri, map_list, rule

FormatName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")]
Argument = Annotated[str, Field(min_length=1, max_length=1024)]
VariableName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

VERSION_PLACE, DIGEST_PLACE = "{version}", "{digest}"
"""What stands for the ModelVersion's name and for the first ten digits of its digest."""


class Replicas(ApiModel):
    """How many servers."""

    rules: ClassVar = (rule("self.min <= self.max", "min must not be greater than max (which is 1 unless set)"),)

    min: int = Field(1, ge=1, le=1000, description="At least.")
    max: int = Field(1, ge=1, le=1000, description="At most.")


class Variable(ApiModel):
    """An environment variable."""

    rules: ClassVar = (
        rule(
            "!self.name.startsWith('SLIPWAY_') && self.name != 'MLSERVER_MODEL_NAME'",
            "MLSERVER_MODEL_NAME and names that start with SLIPWAY_ are set by Slipway: remove them",
        ),
    )

    name: VariableName = Field(description="Its name.")
    value: Annotated[str, Field(max_length=4096)] = Field("", description="Its value.")


class ModelFormat(ApiModel):
    """What a stock runtime of KServe loads."""

    rules: ClassVar = (
        rule(
            f"!has(self.storageUri) || self.storageUri.contains('{VERSION_PLACE}')"
            f" || self.storageUri.contains('{DIGEST_PLACE}')",
            f"storageUri must contain {VERSION_PLACE} or {DIGEST_PLACE}: each version has a model of its own",
        ),
        rule(
            "!has(self.args) || !self.args.exists(a, a.startsWith('--model_name'))",
            "remove --model_name from args: the model's name is the rollout's, whatever the version",
        ),
    )

    name: FormatName = Field(description="KServe's name of the format: sklearn, xgboost, lightgbm, triton, …")
    version: FormatName | None = Field(None, description="Version of the format; any when empty.")
    storage_uri: Uri | None = Field(
        None,
        description=f"Where a version's model stands: `{VERSION_PLACE}` is its ModelVersion, `{DIGEST_PLACE}` the ten"
        " digits at the end of that name. The version's artifact when empty.",
    )
    model_name: Literal["Argument", "Environment", "Artifact"] | None = Field(
        None,
        description="How the server is told the model's name, which is the rollout's. Argument: `--model_name`."
        " Environment: `MLSERVER_MODEL_NAME`. Artifact: not at all; the model is stored under that name. Empty: what"
        " the runtime takes if it is one of KServe's, else Argument.",
    )
    grpc_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the server for protocol grpc-v2. Empty: 9000 for kserve-tritonserver, 7070 for"
        " kserve-torchserve, 8081 for others.",
    )
    args: list[Argument] = Field(
        default_factory=list,
        max_length=32,
        description="Arguments after those of the runtime.",
        json_schema_extra=ATOMIC_LIST,
    )
    env: list[Variable] = Field(
        default_factory=list,
        max_length=32,
        description="Environment of the server.",
        json_schema_extra=map_list("name"),
    )
