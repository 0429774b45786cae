"""What stands before or beside a version's model server in the same InferenceService."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from slipway.api.meta import ATOMIC_LIST, ApiModel, Resources, map_list, rule
from slipway.api.rollout_serving import DIGEST_PLACE, VERSION_PLACE, Argument, Replicas, Variable


class Component(ApiModel):
    """A container of the team's own that speaks the model server's protocol on port 8080."""

    rules: ClassVar = (
        rule(
            "!has(self.args) || !self.args.exists(a, a.startsWith('--model_name') || a.startsWith('--predictor_host')"
            " || a.startsWith('--http_port'))",
            "remove --model_name, --predictor_host and --http_port from args: the container is started with them",
        ),
    )

    image: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description=f"Image. Here, in `args` and in `env`, `{VERSION_PLACE}` is the ModelVersion and `{DIGEST_PLACE}`"
        " the ten digits at the end of that name: so a version has the container that fits it."
    )
    args: list[Argument] = Field(
        default_factory=list,
        max_length=32,
        description="Arguments; `--model_name`, `--predictor_host` and `--http_port` follow them.",
        json_schema_extra=ATOMIC_LIST,
    )
    env: list[Variable] = Field(
        default_factory=list, max_length=32, description="Environment.", json_schema_extra=map_list("name")
    )
    resources: Resources | None = Field(None, description="Resources of the container.")
    replicas: Replicas = Field(default_factory=Replicas, description="How many of them a version has.")
