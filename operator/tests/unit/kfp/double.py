"""A pipelines endpoint in memory: what the API keeps, and a person who plays the tasks of its runs."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from slipway.adapters.outbound import Answer, Refused, Request


class MemoryEndpoint:
    """Answers requests; `down`, `forbidden` and `swallow` are what may be wrong with it.

    :param multi_user: what `/healthz` says
    """

    def __init__(self, multi_user: bool = True) -> None:
        self.multi_user = multi_user
        self.experiments: dict[str, dict[str, Any]] = {}
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.manifests: dict[str, dict[str, Any]] = {}
        """Workflows as the API's older version tells them, by the run's id."""
        self.requests: list[tuple[str, str]] = []
        self.down = False
        self.forbidden = False
        self.swallow = False
        """Do what is asked and let nobody know."""

    async def __call__(self, request: Request) -> Answer:
        old = urlsplit(request.url).path.partition("/apis/v1beta1/runs/")[2]
        if old in self.manifests:
            manifest = json.dumps(self.manifests[old])
            return _ok({"run": {"id": old}, "pipeline_runtime": {"workflow_manifest": manifest}})
        path = urlsplit(request.url).path.partition("/apis/v2beta1")[2]
        self.requests.append((request.method, path))
        if self.down:
            raise Refused("kfp cannot be asked: connection refused.")
        if self.forbidden:
            return _error(401, 16, "there is no user identity header")
        answer = self._answer(request, path)
        if self.swallow and request.method == "POST":
            raise Refused("kfp did not answer within 30 s.")
        return answer

    def _answer(self, request: Request, path: str) -> Answer:
        match (request.method, path.strip("/").split("/")):
            case ("GET", ["healthz"]):
                return _ok({"multi_user": True} if self.multi_user else {})
            case ("GET", ["experiments"]):
                return _ok({"experiments": list(self.experiments.values())})
            case ("POST", ["experiments"]):
                return self._make(self.experiments, "experiment_id", json.loads(request.body or ""))
            case ("GET", ["pipelines"]):
                return _ok({"pipelines": list(self.pipelines.values())})
            case ("POST", ["pipelines"]):
                return self._make(self.pipelines, "pipeline_id", json.loads(request.body or ""))
            case ("GET", ["pipelines", pipeline, "versions"]):
                found = [each for each in self.versions.values() if each["pipeline_id"] == pipeline]
                return _ok({"pipeline_versions": found})
            case ("GET", ["pipelines", _, "versions", version]):
                return _ok(self.versions[version])
            case ("POST", ["pipelines", "upload_version"]):
                made = {"display_name": request.params["name"], "pipeline_id": request.params["pipelineid"]}
                return self._make(self.versions, "pipeline_version_id", {**made, "text": request.body})
            case ("POST", ["runs"]):
                return self._create(json.loads(request.body or ""))
            case ("GET", ["runs", run]):
                return _ok(self.runs[run]) if run in self.runs else _error(404, 5, f"Run {run} not found")
            case ("POST", ["runs", verb]):
                return self._terminate(verb.removesuffix(":terminate"))
        return _error(404, 5, f"no such path: {path}")

    def _make(self, there: dict[str, dict[str, Any]], name: str, body: dict[str, Any]) -> Answer:
        if any(each["display_name"] == body["display_name"] for each in there.values()):
            return _error(409, 6, f"{body['display_name']} exists")
        made = {**body, name: f"{name}-{len(there) + 1}"}
        there[made[name]] = made
        return _ok(made)

    def _create(self, body: dict[str, Any]) -> Answer:
        reference = body["pipeline_version_reference"]
        assert body["run_id"] not in self.runs, "the same run twice"
        version = self.versions.get(reference["pipeline_version_id"])  # None: one that the cluster keeps
        assert version is None or version["pipeline_id"] == reference["pipeline_id"]
        assert body["experiment_id"] in self.experiments
        self.runs[body["run_id"]] = {**body, "state": "PENDING"}
        return _ok(self.runs[body["run_id"]])

    def _terminate(self, run: str) -> Answer:
        if run not in self.runs:
            return _error(404, 5, f"Run {run} not found")
        if self.runs[run]["state"] not in ("PENDING", "RUNNING"):
            return _error(400, 3, "Row not found")
        self.runs[run]["state"] = "CANCELING"
        return _ok({})

    # What a person sees and does

    def tasks(self, run: str, **states: str) -> None:
        """Tasks of a run get states."""
        details = [{"display_name": name.replace("_", "-"), "state": state} for name, state in states.items()]
        self.runs[run]["run_details"] = {"task_details": details}

    def end(self, run: str, state: str, finished: str = "") -> None:
        """A run ends."""
        self.runs[run]["state"] = state
        if finished:
            self.runs[run]["finished_at"] = finished

    def writes(self) -> list[str]:
        """Paths of everything that was written."""
        return [path for method, path in self.requests if method != "GET"]


def _ok(body: dict[str, Any]) -> Answer:
    return Answer(200, json.dumps(body).encode())


def _error(status: int, code: int, message: str) -> Answer:
    return Answer(status, json.dumps({"code": code, "message": message, "details": []}).encode())
