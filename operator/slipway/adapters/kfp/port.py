"""What the engine does at an endpoint. Each call is idempotent: it looks before it writes, and may be repeated.

A server makes the Workflow of a run before it records the run. So a run is created only when the endpoint knows none of
its id and the cluster has no Workflow of it; and after a create whose answer never came, ours or that of an operator
that ended, not before that request is certainly over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.adapters.kfp.api import ApiRefused, KfpApi, NotCertain
from slipway.adapters.kfp.endpoint import Endpoint
from slipway.adapters.kfp.submission import Submission
from slipway.api.reasons import Reason
from slipway.runtime.client import Client
from slipway.runtime.errors import AlreadyExists, Forbidden, NotFound, Unavailable
from slipway.runtime.resources import KFP_PIPELINE, KFP_PIPELINE_VERSION, MANAGED_BY, MANAGED_BY_LABEL, WORKFLOW, Object

RUN_LABEL = "pipeline/runid"
SETTLE_SECONDS = 20.0
"""After a create without an answer: servers give up a request whose caller has gone well before."""
BLIND_SECONDS = 300.0
"""After Workflows could not be seen: not asked for again so long."""
REFUSALS = 2
"""Times that an endpoint refuses a team's own pipeline, before that counts as its last word."""
_REMEMBERED = 4096

_Place = tuple[str, str, str]
"""URL of an endpoint, a namespace there, a project's group."""


@dataclass
class Kubeflow:
    """The engine's hands.

    :param settle: see SETTLE_SECONDS
    """

    api: KfpApi
    settle: float = SETTLE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _client: Client | None = None
    _experiments: dict[_Place, str] = field(default_factory=dict)
    _versions: dict[tuple[_Place, str], tuple[str, str]] = field(default_factory=dict)
    _uncertain: dict[str, float] = field(default_factory=dict)
    _refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    _blind_until: float = 0.0
    _since: float = 0.0
    _fresh: set[str] = field(default_factory=set)
    """Runs that this term asked for first, as long as others may still have asked for some."""

    def bind(self, client: Client) -> None:
        """Ask this API server from now on: each term of leadership has a client of its own."""
        if client is not self._client:
            self._client, self._since, self._fresh = client, self.clock(), set()

    async def submit(self, submission: Submission) -> None:
        """Create a run, unless there is one. :raises Unavailable: not now, or not like this"""
        endpoint, name = submission.endpoint, submission.name
        if submission.fresh and self.clock() < self._since + self.settle:
            self._fresh.add(submission.run_id)
        if await self.api.run(endpoint, submission.run_id) is not None:
            return
        try:
            body = await self._prepared(submission)
            # Once more, right before what cannot be undone: making a version may have taken a while.
            if await self.api.run(endpoint, submission.run_id) is not None:
                return
            if await self.workflows(submission.namespace, submission.run_id):
                return
            self._certain(submission)
            await self.api.create_run(endpoint, body)
        except NotCertain:
            self._forget(submission)
            self._doubt(submission.run_id)
            raise
        except ApiRefused as refused:
            self._forget(submission)
            if refused.status == 409:
                return
            if submission.own and refused.status == 400:
                self._note(submission.run_id, refused.message)
            raise Unavailable(
                f"The pipelines endpoint {endpoint.url} does not take run {name} ({refused.status}: "
                f"{refused.message}).",
                reason=Reason.SubmissionRefused,
            ) from refused
        except Unavailable:
            self._forget(submission)
            raise

    async def terminate(self, endpoint: Endpoint, run_id: str) -> None:
        """Have a run ended; one that has ended, or is gone, is fine."""
        try:
            await self.api.terminate_run(endpoint, run_id)
        except ApiRefused as refused:
            if refused.status not in (400, 404, 409):
                raise Unavailable(
                    f"The pipelines endpoint {endpoint.url} does not end run {run_id} ({refused.status}: "
                    f"{refused.message}).",
                    reason=Reason.EndpointUnavailable,
                ) from refused

    async def workflows(self, namespace: str, run_id: str) -> list[Object] | None:
        """Workflows of a run, from the API server; None where they cannot be seen."""
        if self._client is None:
            raise RuntimeError("Kubeflow.bind was not called")
        if self.clock() < self._blind_until:
            return None
        try:
            return await self._client.list(WORKFLOW, namespace, label_selector=f"{RUN_LABEL}={run_id}")
        except (NotFound, Forbidden):
            self._blind_until = self.clock() + BLIND_SECONDS
            return None

    def refused(self, run_id: str) -> str:
        """What the endpoint said when it refused, again and again, a run with a pipeline of the team's own."""
        times, said = self._refusals.get(run_id, (0, ""))
        return said if times >= REFUSALS else ""

    def _note(self, run_id: str, said: str) -> None:
        """Once may be for ids that it does not know any more; these are looked for anew."""
        if len(self._refusals) >= _REMEMBERED:
            self._refusals.clear()
        self._refusals[run_id] = (self._refusals.get(run_id, (0, ""))[0] + 1, said)

    def doubtful(self, run_id: str) -> bool:
        """Whether a create of this run may still be under way."""
        return self._uncertain.get(run_id, 0.0) > self.clock()

    async def _prepared(self, submission: Submission) -> dict[str, Any]:
        """The request, with experiment and pipeline version made where they are missing."""
        endpoint, group = submission.endpoint, submission.group
        place = (endpoint.url, submission.namespace, group)
        about = f"Training runs of ModelProject {group.partition('.')[2]} in namespace {group.partition('.')[0]}."
        if place not in self._experiments:
            self._experiments[place] = await self.api.experiment(endpoint, submission.api_namespace, group, about)
        known = self._versions.get((place, submission.document.name))
        if known is None:
            if len(self._versions) >= _REMEMBERED:
                self._versions.clear()
            known = self._versions[place, submission.document.name] = await self._version(submission, about)
        return submission.run(self._experiments[place], *known)

    async def _version(self, submission: Submission, about: str) -> tuple[str, str]:
        """Ids of pipeline and version."""
        endpoint, group, document = submission.endpoint, submission.group, submission.document
        if endpoint.native:
            return await self._native_version(submission, about)
        pipeline = await self.api.pipeline(endpoint, submission.api_namespace, group, about)
        what = f"Compiled pipeline {document.pipeline}."
        return pipeline, await self.api.version(endpoint, pipeline, document.name, what, document.text)

    async def _native_version(self, submission: Submission, about: str) -> tuple[str, str]:
        """The same as objects of the cluster; the endpoint calls them by their uid."""
        group, document = submission.group, submission.document
        meta = {"namespace": submission.namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}}
        pipeline = await self._object(
            {
                "apiVersion": KFP_PIPELINE.api_version,
                "kind": KFP_PIPELINE.kind,
                "metadata": {**meta, "name": group},
                "spec": {"displayName": group, "description": about},
            }
        )
        owner = {
            "apiVersion": KFP_PIPELINE.api_version,
            "kind": KFP_PIPELINE.kind,
            "name": group,
            "uid": pipeline,
        }
        version = await self._object(
            {
                "apiVersion": KFP_PIPELINE_VERSION.api_version,
                "kind": KFP_PIPELINE_VERSION.kind,
                "metadata": {**meta, "name": f"{group}-{document.name}", "ownerReferences": [owner]},
                "spec": {
                    "displayName": document.name,
                    "description": f"Compiled pipeline {document.pipeline}.",
                    "pipelineName": group,
                    "pipelineSpec": document.spec,
                    "platformSpec": document.platform,
                },
            }
        )
        return pipeline, version

    async def _object(self, manifest: Mapping[str, Any]) -> str:
        """The uid of an object, which is made where there is none."""
        if self._client is None:
            raise RuntimeError("Kubeflow.bind was not called")
        type_ = KFP_PIPELINE if manifest["kind"] == KFP_PIPELINE.kind else KFP_PIPELINE_VERSION
        key = type_.key_of(manifest)
        try:
            found = await self._client.find(key)
            if found is None:
                try:
                    found = await self._client.create(type_, manifest)
                except AlreadyExists:
                    found = await self._client.get(key)
        except NotFound as error:
            raise Unavailable(
                f"The cluster has no {type_}, or no namespace {key.namespace}: install Kubeflow Pipelines with "
                "Kubernetes as its pipeline store, or set definitions: Api.",
                reason=Reason.SubmissionRefused,
            ) from error
        return str(found["metadata"]["uid"])

    def _certain(self, submission: Submission) -> None:
        """:raises Unavailable: a create of this run may still be under way: ours, or that of an operator before us"""
        left = self._uncertain.get(submission.run_id, 0.0) - self.clock()
        if left > 0:
            raise Unavailable(
                "The pipelines endpoint did not say whether it made the run; it is asked again.",
                reason=Reason.EndpointUnavailable,
                retry_after=left,
            )
        left = self._since + self.settle - self.clock()
        if left > 0 and submission.run_id not in self._fresh:
            raise Unavailable(
                f"Another operator may have asked for run {submission.run_id} just before it ended; should it not "
                f"appear within {self.settle:g} s, it is asked for again.",
                reason=Reason.EndpointUnavailable,
                retry_after=left,
            )

    def _doubt(self, run_id: str) -> None:
        now = self.clock()
        self._uncertain = {each: until for each, until in self._uncertain.items() if until > now}
        self._uncertain[run_id] = now + self.settle

    def _forget(self, submission: Submission) -> None:
        """Ids may be what is wrong: somebody deleted a pipeline or an experiment, or the database is a new one."""
        url = submission.endpoint.url
        self._experiments = {place: each for place, each in self._experiments.items() if place[0] != url}
        self._versions = {where: each for where, each in self._versions.items() if where[0][0] != url}
