"""Building blocks shared by every kind: scalars with bounds, references, conditions, and the marks that CRDs carry.

Shapes follow the Kubernetes API conventions: references end in `Ref`, unions have a discriminator and exactly one
member (a CEL rule says which), durations are Gateway API durations, thresholds are decimal strings, and every list,
string and map has a bound, without which the API server cannot bound the cost of a CEL rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP = "slipway.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


_CEL_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)


def cel_name(name: str) -> str:
    """A property's name as Kubernetes spells it in CEL: reserved words stand between double underscores."""
    return f"__{name}__" if name in _CEL_RESERVED else name


def rule(expression: str, message: str, *, field_path: str | None = None) -> dict[str, str]:
    """One CEL rule; `message` is the sentence that a user reads when the API server refuses the object."""
    out = {"rule": expression, "message": message}
    if field_path:
        out["fieldPath"] = field_path
    return out


def one_of(discriminator: str, members: Mapping[str, str], *, default: str | None = None) -> dict[str, str]:
    """The CEL rule of a union: the member that the discriminator names is set, and no other.

    `members` maps discriminator values to property names; a value without an entry takes no member.
    """
    parts = [f"(self.{discriminator} == '{value}') == has(self.{name})" for value, name in members.items()]
    names = ", ".join(f"{name} with {value}" for value, name in members.items())
    suffix = f" (the default {discriminator} is {default})" if default else ""
    return rule(" && ".join(parts), f"set exactly the member that {discriminator} names: {names}{suffix}")


def exactly_one(*names: str) -> dict[str, str]:
    """The CEL rule that exactly one of the optional properties is set."""
    members = ", ".join(f"has(self.{cel_name(name)})" for name in names)
    return rule(f"[{members}].filter(x, x).size() == 1", f"set exactly one of {', '.join(names)}")


def unchanged(message: str, *, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, str]:
    """The CEL rule that properties keep the values that they were created with; optional ones also stay unset."""
    parts = [f"self.{name} == oldSelf.{name}" for name in required]
    parts += [
        f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
        for name in optional
    ]
    return rule(" && ".join(parts), message)


def same_project(kind: str) -> dict[str, str]:
    """The CEL rule that an object stays in its project."""
    return unchanged(
        f"a {kind} cannot move to another project: projectRef does not change; create another {kind}",
        required=["projectRef"],
    )


class ApiModel(BaseModel):
    """A part of an object: camelCase on the wire, unknown fields ignored (a newer API server may send more).

    `rules` become `x-kubernetes-validations` of this part's schema.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    rules: ClassVar[tuple[dict[str, str], ...]] = ()

    def wire(self) -> dict[str, Any]:
        """The JSON form: camelCase, unset optionals left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def map_list(key: str | list[str]) -> dict[str, Any]:
    """Schema marks of a list whose items are merged by key under server-side apply."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key] if isinstance(key, str) else key}


SET_LIST: dict[str, Any] = {"x-kubernetes-list-type": "set"}
ATOMIC_LIST: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}

# ---- scalars ---------------------------------------------------------------------------------------------------------
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""Name of a Kubernetes object."""
LabelName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A DNS label: names of namespaces, steps, checks, rules."""
Identifier = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Name of a column, a feature, a metric: usable in SQL and Python without quotes."""
Text = Annotated[str, Field(min_length=1, max_length=1024)]
"""A sentence or two for people."""
Sql = Annotated[str, Field(min_length=1, max_length=4096)]
"""A DuckDB expression; it runs with external access off."""
Uri = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[a-z][a-z0-9+.-]*://.+$")]
Duration = Annotated[str, Field(max_length=24, pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
"""A Gateway API duration: `90s`, `1h30m`, `720h`."""
DecimalString = Annotated[str, Field(max_length=24, pattern=r"^-?[0-9]{1,12}(\.[0-9]{1,9})?$")]
"""A decimal number as a string, so that no client rounds it."""
Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
Cron = Annotated[str, Field(min_length=9, max_length=100, pattern=r"^\S+ \S+ \S+ \S+ \S+$")]
"""Five cron fields, in the time zone that stands beside them."""
TimeZone = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z_]+(/[A-Za-z0-9_+-]+)*$")]
"""An IANA time zone, such as `Etc/UTC` or `America/New_York`."""
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$"
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    Field(max_length=32, pattern=_QUANTITY),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32, "pattern": _QUANTITY}),
]
"""A Kubernetes quantity, such as `500m`, `2Gi` or the plain number 1."""
Percent = Annotated[int, Field(ge=0, le=100)]
EntryPoint = Annotated[
    str, Field(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$")
]
"""A Python function, as `package.module:function`."""
Scalar = Annotated[
    str | bool | int | float,
    WithJsonSchema(
        {
            "x-kubernetes-preserve-unknown-fields": True,
            "maxLength": 1024,
            # No structural schema says "any scalar". These bounds, which nothing can meet, refuse objects and lists.
            "minProperties": 1,
            "maxProperties": 0,
            "minItems": 1,
            "maxItems": 0,
        }
    ),
]
"""A JSON scalar: a hyperparameter."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@lru_cache(1024)
def parse_duration(text: str) -> timedelta:
    """A Gateway API duration as a timedelta. ValueError on anything else."""
    import re

    if not re.fullmatch(r"([0-9]{1,5}(h|m|s|ms)){1,4}", text):
        raise ValueError(f"{text!r} is not a duration such as 90s, 15m or 720h")
    seconds = sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"([0-9]+)(ms|h|m|s)", text))
    return timedelta(seconds=seconds)


def parse_decimal(text: str) -> Decimal:
    """A decimal string as Decimal. InvalidOperation on anything else."""
    return Decimal(text)


def parse_time(text: str) -> datetime:
    """An RFC 3339 time of the Kubernetes API, with its zone."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


# ---- references ------------------------------------------------------------------------------------------------------
class LocalRef(ApiModel):
    """Names an object in the same namespace."""

    name: ObjectName = Field(description="Name of the object, in the same namespace.")


class ClusterRef(ApiModel):
    """Names a cluster-scoped object."""

    name: ObjectName = Field(description="Name of the cluster-scoped object.")


class NamespacedRef(ApiModel):
    """Names an object in any namespace."""

    namespace: LabelName = Field(description="Namespace of the object.")
    name: ObjectName = Field(description="Name of the object.")


class Toleration(ApiModel):
    """A toleration, as in a Pod."""

    rules: ClassVar = (
        rule("!has(self.value) || self.operator == 'Equal'", "value is only for operator Equal: remove it"),
        rule("has(self.key) || self.operator == 'Exists'", "set key; only operator Exists goes without"),
    )

    key: str | None = Field(None, max_length=316, description="Taint key that is tolerated; empty for all.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="How `value` is compared.")
    value: str | None = Field(None, max_length=63, description="Taint value; only with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect that is tolerated; empty for all."
    )


Quantities = Annotated[dict[str, Quantity], Field(max_length=16)]


class Resources(ApiModel):
    """Compute resources of one container, as in a Pod."""

    requests: Quantities | None = Field(None, description="What the scheduler reserves, by resource name.")
    limits: Quantities | None = Field(None, description="What may be used at most, by resource name.")


# ---- status ----------------------------------------------------------------------------------------------------------
class Condition(ApiModel):
    """One aspect of an object's state, as `metav1.Condition`."""

    type: str = Field(max_length=63, description="Aspect that this condition tells about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    observed_generation: int | None = Field(None, ge=0, description="Generation of the spec that this is about.")
    last_transition_time: str = Field(
        max_length=40, description="When `status` last changed.", json_schema_extra={"format": "date-time"}
    )
    reason: str = Field(max_length=128, description="One CamelCase word for programs.")
    message: str = Field(max_length=4096, description="A sentence for people: what is so, and what to change.")


class Status(ApiModel):
    """What every kind's status has."""

    observed_generation: int | None = Field(None, ge=0, description="Generation of the spec that this status is about.")
    conditions: list[Condition] | None = Field(
        None, max_length=16, description="State by aspect.", json_schema_extra=map_list("type")
    )


class ObjectMeta(ApiModel):
    """The parts of an object's metadata that Slipway reads."""

    name: str = ""
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    finalizers: list[str] = Field(default_factory=list)


class Column(ApiModel):
    """A printer column of `kubectl get`."""

    name: str
    path: str
    type: Literal["string", "integer", "number", "boolean", "date"] = "string"
    priority: int = 0
    description: str = ""


NAME_PREFIX = rule(
    "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
    "the name must have at most 40 lower-case letters, digits and '-', and start with a letter:"
    " names of versions, Jobs and servers start with it",
)
"""Names that others are made from, down to `NAME-DIGEST10-predictor`, which has to fit into a DNS label."""


class Resource(ApiModel):
    """Base of a kind: `spec`, `status`, and what its CRD says beside the schema."""

    kind_name: ClassVar[str]
    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]] = ()
    namespaced: ClassVar[bool] = True
    operator_only: ClassVar[bool] = False
    """Only the operator's ServiceAccount may create or change objects of this kind."""
    columns: ClassVar[tuple[Column, ...]] = ()
    names: ClassVar[dict[str, str]] = rule(
        "self.metadata.name.size() <= 63", "the name must have at most 63 characters: it becomes a label's value"
    )
    """What names the kind allows."""

    api_version: str = API_VERSION
    kind: str = ""
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
