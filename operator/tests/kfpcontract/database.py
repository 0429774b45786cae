"""The API server's database, and what one request is."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kfp_server_api.models import V2beta1Experiment, V2beta1Pipeline, V2beta1PipelineVersion, V2beta1Run

from kfpcontract.operations import Operation

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""What the API answers for times that have not come yet."""


@dataclass(frozen=True)
class Settings:
    """How Kubeflow Pipelines is installed.

    :param multi_user: namespaces count, and so does who asks
    :param pod_namespace: of the API server; runs are there unless users have namespaces of their own
    :param orphan_grace_seconds: how old a Workflow without a run must be to be deleted; until KFP 2.5 it was 0
    :param workflow_ttl_seconds: how long a Workflow stays when it has ended
    :param retention_seconds: how long a run stays in the database when it has ended; None: for ever
    :param before_2_6: errors have the older gateway's form
    :param serves_v1beta1: runs can be asked for by the API's version before
    :param lacks: fields that this release does not know, as `Model.field`
    :param adds: fields of answers that no published model has, by the answer's type: a release of tomorrow
    """

    multi_user: bool = False
    pod_namespace: str = "kubeflow"
    orphan_grace_seconds: float = 120.0
    workflow_ttl_seconds: float = 86_400.0
    retention_seconds: float | None = None
    before_2_6: bool = False
    serves_v1beta1: bool = True
    lacks: frozenset[str] = frozenset()
    adds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def service_account(self) -> str:
        """Runs' pods have it unless a request names another."""
        return "default-editor" if self.multi_user else "pipeline-runner"


async def _nothing() -> None:
    """Nobody interrupts."""


@dataclass(frozen=True)
class Call:
    """One request, read by the contract.

    :param places: what stands at the places of the path
    :param file: name and content of an uploaded file
    :param between: awaited where the API server has made a Workflow and not yet written the run
    """

    operation: Operation
    places: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    file: tuple[str, bytes] | None = None
    between: Callable[[], Awaitable[None]] = _nothing


@dataclass
class RunRow:
    """A run as the database has it.

    :param run: what the API shows of it
    :param namespace, workflow: where its Workflow is
    :param spec: the pipeline that it runs, as JSON
    :param generation: how often it was retried
    :param manifest: its Workflow as it was last reported
    """

    run: V2beta1Run
    namespace: str
    workflow: str
    spec: Mapping[str, Any]
    generation: int = 0
    reported: bool = False
    manifest: str = ""


@dataclass
class VersionRow:
    """A pipeline version, and its package as it was uploaded."""

    version: V2beta1PipelineVersion
    package: bytes


class Database:
    """Everything that survives the API server's end.

    :param clock: gives the time
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.runs: dict[str, RunRow] = {}
        self.experiments: dict[str, V2beta1Experiment] = {}
        self.pipelines: dict[str, V2beta1Pipeline] = {}
        self.versions: dict[str, VersionRow] = {}
        self.default_experiment = ""
        self._numbers = itertools.count(1)

    def new_id(self) -> str:
        """The next id; the same in each run of a test."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"kfp-{next(self._numbers)}"))

    def now(self) -> datetime:
        """Now, in whole seconds, as the database keeps it."""
        return self.clock().replace(microsecond=0)
