"""A state machine of what KServe 0.20 and Knative Serving make of an InferenceService in Knative mode. For tests only.

It is derived from their sources, and from nothing else: no Knative runs here. From KServe (`pkg/controller/v1beta1/
inferenceservice/reconcilers/knative/ksvc_reconciler.go`, `pkg/apis/serving/v1beta1/inference_service_status.go`): which
traffic a Knative Service is told (`createKnativeService`), what becomes the template of a revision (`buildObjectMeta`:
annotations of the predictor go before those of the InferenceService), and how the memory of rolled-out revisions moves
(`PropagateStatus`). From Knative Serving (`pkg/reconciler/{configuration,route}`): a changed template makes a revision,
the newest ready one is never one before the last, `latestRevision` means that one, and a revision that no route names
has no servers. The steps are apart, so that tests can take them in any order, as they are in a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slipway.adapters.kserve import VERSION_ANNOTATION
from slipway.runtime.resources import Object

_NOT_IN_TEMPLATE = ("canaryTrafficPercent", "annotations", "labels")


@dataclass
class Revision:
    name: str
    template: str
    version: str
    ready: bool = False
    tries: int = 0


@dataclass
class Traffic:
    """An entry of a Knative Service's `spec.traffic`; without a revision, it is for the newest that is ready."""

    percent: int
    revision: str = ""


@dataclass
class KnativePlay:
    """One InferenceService's way through KServe and Knative.

    :param broken: versions whose servers never become ready
    :param slow: how often the servers of a revision are looked at before they are ready
    """

    broken: set[str] = field(default_factory=set)
    slow: int = 0
    revisions: list[Revision] = field(default_factory=list)
    template: tuple[str, str] | None = None
    traffic: list[Traffic] = field(default_factory=list)
    latest_ready: str = ""
    routed: list[dict[str, Any]] = field(default_factory=list)
    rolled_out: str = ""
    before: str = ""

    # ---- KServe ------------------------------------------------------------------------------------------------------
    def kserve(self, service: Mapping[str, Any]) -> Object:
        """One reconcile: write the Knative Service, then take over what its status said."""
        predictor, name = service["spec"]["predictor"], service["metadata"]["name"]
        self.name = f"{name}-predictor"
        percent = predictor.get("canaryTrafficPercent")
        if percent is not None and self.rolled_out:
            self.traffic = [Traffic(percent)]
            if percent < 100:
                self.traffic.append(Traffic(100 - percent, self.rolled_out))
        else:
            self.traffic = [Traffic(100)]
        notes = {**(service["metadata"].get("annotations") or {}), **(predictor.get("annotations") or {})}
        labels = {**(service["metadata"].get("labels") or {}), **(predictor.get("labels") or {})}
        pod = {field: value for field, value in predictor.items() if field not in _NOT_IN_TEMPLATE}
        self.template = (json.dumps([notes, labels, pod], sort_keys=True), notes[VERSION_ANNOTATION])
        self._propagate()
        return self._status(name)

    def _propagate(self) -> None:
        shares: dict[str, int] = {}
        for each in self.routed:
            shares[each["revisionName"]] = shares.get(each["revisionName"], 0) + each["percent"]
        for each in self.routed:
            if each["revisionName"] != self.latest_ready or not each["latestRevision"]:
                continue
            if self.rolled_out != self.latest_ready:
                if each["percent"] == 100:
                    self.before, self.rolled_out = self.rolled_out, self.latest_ready
            elif self._is_taken_back(each, shares):
                self.rolled_out = self.before

    def _is_taken_back(self, entry: dict[str, Any], shares: dict[str, int]) -> bool:
        """KServe takes a split of one revision with itself for the order to go back to the one before."""
        newest = self.latest_ready == self.latest_created
        return newest and entry["percent"] < 100 and shares[entry["revisionName"]] == 100 and bool(self.before)

    @property
    def latest_created(self) -> str:
        return self.revisions[-1].name if self.revisions else ""

    def _status(self, name: str) -> Object:
        component: Object = {
            "latestCreatedRevision": self.latest_created,
            "latestReadyRevision": self.latest_ready,
            "latestRolledoutRevision": self.rolled_out,
            "previousRolledoutRevision": self.before,
        }
        ready = bool(self.latest_ready) and self.latest_ready == self.latest_created
        word = "True" if ready else "Unknown"
        kinds = ("Ready", "PredictorReady", "PredictorConfigurationReady")
        return {
            "url": f"http://{name}.flights.example.com",
            "deploymentMode": "Knative",
            "conditions": [{"type": kind, "status": word} for kind in kinds],
            "components": {
                "predictor": {
                    **{key: value for key, value in component.items() if value},
                    "traffic": [dict(each) for each in self.routed],
                }
            },
        }

    # ---- Knative -----------------------------------------------------------------------------------------------------
    def configuration(self) -> None:
        """Make a revision for a template that is new, and find the newest one that is ready."""
        if self.template is not None and (not self.revisions or self.revisions[-1].template != self.template[0]):
            name = f"{self.name}-{len(self.revisions) + 1:05d}"
            self.revisions.append(Revision(name, *self.template))
        ready = [each for each in self.revisions if each.ready]
        if ready:
            self.latest_ready = max(self.latest_ready, ready[-1].name)

    def route(self) -> None:
        """Resolve the traffic that the Knative Service asks for."""
        if not self.latest_ready:
            return
        self.routed = [
            {
                "revisionName": each.revision or self.latest_ready,
                "percent": each.percent,
                "latestRevision": not each.revision,
                "tag": "prev" if each.revision else "latest",
            }
            for each in self.traffic
        ]

    def start(self) -> None:
        """Servers of revisions become ready, the slow ones later, and some never."""
        for each in self.revisions:
            each.tries += 1
            each.ready = each.ready or (each.version not in self.broken and each.tries > self.slow)

    def servers(self) -> dict[str, Revision]:
        """Revisions with servers, by name."""
        named = {each["revisionName"] for each in self.routed} | {self.latest_created}
        return {each.name: each for each in self.revisions if each.ready and each.name in named}

    def shares(self) -> dict[str, int]:
        """Percent of requests by version, as they really go."""
        version = {each.name: each.version for each in self.revisions}
        found: dict[str, int] = {}
        for each in self.routed:
            if each["percent"]:
                name = version[each["revisionName"]]
                found[name] = found.get(name, 0) + each["percent"]
        return found
