"""KServe in Knative mode: one InferenceService for all versions of a rollout, and what KServe makes of it.

Each change of its template becomes a revision. Without `canaryTrafficPercent`, all requests go to the newest revision
that is ready, whatever is in it; with it, that one gets so many percent, and the rest goes to the last revision that
had all requests (`latestRolledoutRevision`, with the tag `prev`). KServe moves that memory by itself: to the newest
revision once it has 100 percent, and back to the one before (`previousRolledoutRevision`) when a newest revision that
had all requests gets fewer. All of this is read from the source of KServe 0.20: `createKnativeService` and
`PropagateStatus`.

Annotations of an InferenceService are copied into the template, so that writing one makes a revision. Those that
Slipway writes have a fixed text among the predictor's annotations, which go before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from slipway.adapters import kserve, trouble
from slipway.adapters.gateway import MEMORY_ANNOTATION, REJECTED_ANNOTATION
from slipway.adapters.kserve import VERSION_ANNOTATION, Deployment, Model, Readiness, Trouble
from slipway.runtime.conditions import find
from slipway.runtime.resources import APPLIED_HASH, GROUP, Object

MODE_ANNOTATION: Final = "serving.kserve.io/deploymentMode"
MODE: Final = "Knative"
_OLD_MODE: Final = "Serverless"
REVISION_LABEL: Final = "serving.knative.dev/revision"
ORIGINS_ANNOTATION: Final = f"{GROUP}/revisions"
"""Which version revisions come from, as `VERSION@N`: those with greater numbers than N, up to the next entry's."""
_TAGS_ANNOTATION: Final = "serving.kserve.io/enable-tag-routing"
_OWN: Final = (APPLIED_HASH, REJECTED_ANNOTATION, MEMORY_ANNOTATION, ORIGINS_ANNOTATION)
_KEPT: Final = 16

Origins = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Target:
    """A revision that the route names.

    :param latest: it is there as the newest revision that is ready
    """

    revision: str
    percent: int
    latest: bool


@dataclass(frozen=True)
class Split:
    """The InferenceService of a rollout, as it is written and as KServe and Knative have taken it in.

    :param live: the object
    :param version: ModelVersion that its spec serves
    :param percent: its `canaryTrafficPercent`
    :param origins: which version revisions come from, oldest first
    :param created: the newest revision
    :param ready_revision: the newest one that is ready
    :param rolled_out: the last one that had all requests, by KServe's memory
    :param before: the one before that
    :param traffic: what the route says now
    :param says_ready: the predictor is ready, as KServe says
    """

    live: Object
    version: str
    percent: int | None
    origins: Origins
    created: str = ""
    ready_revision: str = ""
    rolled_out: str = ""
    before: str = ""
    traffic: tuple[Target, ...] = ()
    says_ready: bool = False

    @property
    def name(self) -> str:
        return str(self.live["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.live["metadata"]["uid"])

    @property
    def deleting(self) -> bool:
        return bool(self.live["metadata"].get("deletionTimestamp"))

    @property
    def taken_in(self) -> bool:
        """Whether KServe has made a revision of the version that is written: no other one is written before."""
        return number_of(self.created) > (self.origins[-1][1] if self.origins else 0)

    @property
    def newest_is_ready(self) -> bool:
        """Whether the newest revision is the one that requests for the newest go to."""
        return self.taken_in and self.created == self.ready_revision

    def version_of(self, revision: str) -> str:
        """The ModelVersion that a revision serves; empty when nobody knows."""
        found = [version for version, after in self.origins if number_of(revision) > after]
        return found[-1] if found and number_of(revision) else ""

    def shares(self) -> dict[str, int]:
        """Percent of requests by version, as the route says."""
        found: dict[str, int] = {}
        for target in self.traffic:
            if target.percent:
                version = self.version_of(target.revision)
                found[version] = found.get(version, 0) + target.percent
        return found

    def revision_of(self, version: str) -> str:
        """The revision with which a version answers; empty without any."""
        named = [self.ready_revision, self.rolled_out, self.created, *(each.revision for each in self.traffic)]
        return next((each for each in named if each and self.version_of(each) == version), "")


@dataclass(frozen=True)
class KnativeFacts:
    """What Knative mode adds to a snapshot.

    :param split: the InferenceService; None while there is none
    :param pods: its servers
    """

    split: Split | None = None
    pods: Sequence[Object] = ()

    def revision_of(self, version: str) -> str:
        """The revision of a version, which is also the name of its Service and a label of Knative's metrics."""
        return self.split.revision_of(version) if self.split is not None else ""


def number_of(revision: str) -> int:
    """Knative counts the revisions of a service: `NAME-00007` is 7; 0 for another name."""
    found = re.search(r"-([0-9]+)$", revision)
    return int(found[1]) if found else 0


# ---- manifest --------------------------------------------------------------------------------------------------------
def inference_service(
    deployment: Deployment,
    model: Model,
    percent: int | None,
    origins: Origins,
    rejected: Sequence[str] = (),
    memory: str = "",
) -> Object:
    """The InferenceService of a rollout with one version in it.

    :param percent: of requests for the newest revision; None for all of them, as soon as it is ready
    :param rejected: names of rejected ModelVersions, to be remembered
    :param memory: further text to be remembered
    """
    manifest = kserve.inference_service(deployment, model)
    meta, predictor = manifest["metadata"], dict(manifest["spec"]["predictor"])
    notes = {name: text for name, text in meta["annotations"].items() if name != "serving.kserve.io/autoscalerClass"}
    notes |= {MODE_ANNOTATION: MODE, _TAGS_ANNOTATION: "true"}
    # Knative refuses these: it has its own grace period and ends a server only when its requests are answered.
    for field in ("terminationGracePeriodSeconds", "securityContext"):
        predictor.pop(field, None)
    predictor["model"] = {name: value for name, value in predictor["model"].items() if name != "lifecycle"}
    predictor["annotations"] = {**(predictor.get("annotations") or {}), **dict.fromkeys(_OWN, "-")}
    return _remembering(
        {
            **manifest,
            "metadata": {**meta, "name": deployment.rollout, "annotations": notes},
            "spec": {**manifest["spec"], "predictor": predictor},
        },
        percent,
        origins,
        rejected,
        memory,
    )


def hold(split: Split, percent: int | None, rejected: Sequence[str] = (), memory: str = "") -> Object:
    """The InferenceService as it is, with another split."""
    live = split.live
    meta = live["metadata"]
    notes = {name: text for name, text in (meta.get("annotations") or {}).items() if name not in _OWN}
    kept = {"name": meta["name"], "namespace": meta["namespace"], "labels": meta.get("labels") or {}}
    manifest = {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": {**kept, "annotations": notes},
        "spec": live["spec"],
    }
    return _remembering(manifest, percent, split.origins, rejected, memory)


def _remembering(
    manifest: Object, percent: int | None, origins: Origins, rejected: Sequence[str], memory: str
) -> Object:
    predictor = {name: value for name, value in manifest["spec"]["predictor"].items() if name != "canaryTrafficPercent"}
    if percent is not None:
        predictor["canaryTrafficPercent"] = percent
    texts = {
        ORIGINS_ANNOTATION: " ".join(f"{version}@{after}" for version, after in origins),
        REJECTED_ANNOTATION: " ".join(sorted(rejected)),
        MEMORY_ANNOTATION: memory,
    }
    meta = manifest["metadata"]
    notes = {**meta["annotations"], **{name: text for name, text in texts.items() if text}}
    return {
        **manifest,
        "metadata": {**meta, "annotations": notes},
        "spec": {**manifest["spec"], "predictor": predictor},
    }


def with_origin(split: Split | None, version: str) -> Origins:
    """The origins once this version is written."""
    if split is None:
        return ((version, 0),)
    if split.version == version:
        return split.origins
    return (*split.origins, (version, number_of(split.created)))[-_KEPT:]


# ---- state -----------------------------------------------------------------------------------------------------------
def is_knative(service: Mapping[str, Any]) -> bool:
    """Whether an InferenceService is in Knative mode."""
    mode = (service["metadata"].get("annotations") or {}).get(MODE_ANNOTATION)
    return mode in (MODE, _OLD_MODE)


def read(service: Object) -> Split:
    """An InferenceService in Knative mode."""
    notes = service["metadata"].get("annotations") or {}
    status = service.get("status") or {}
    component = (status.get("components") or {}).get("predictor") or {}
    version = str(notes.get(VERSION_ANNOTATION, ""))
    return Split(
        live=service,
        version=version,
        percent=service["spec"]["predictor"].get("canaryTrafficPercent"),
        origins=_origins(str(notes.get(ORIGINS_ANNOTATION, ""))) or ((version, 0),),
        created=str(component.get("latestCreatedRevision", "")),
        ready_revision=str(component.get("latestReadyRevision", "")),
        rolled_out=str(component.get("latestRolledoutRevision", "")),
        before=str(component.get("previousRolledoutRevision", "")),
        traffic=tuple(
            Target(str(each.get("revisionName", "")), int(each.get("percent") or 0), bool(each.get("latestRevision")))
            for each in component.get("traffic") or ()
        ),
        says_ready=(find(status.get("conditions") or (), "PredictorReady") or {}).get("status") == "True",
    )


def _origins(text: str) -> Origins:
    entries = (word.rpartition("@") for word in text.split())
    return tuple((version, int(after)) for version, _, after in entries if version and after.isdigit())


def readiness(split: Split, version: str, pods: Iterable[Object]) -> Readiness:
    """How far the servers of a version are: of its revisions that requests may go to."""
    mine = [pod for pod in pods if split.version_of(_revision_of(pod)) == version]
    counted = [pod for pod in mine if _is_ready(pod)]
    if version == split.version:
        newest = [pod for pod in counted if _revision_of(pod) == split.created]
        ready = split.newest_is_ready and split.says_ready and bool(newest)
    else:
        ready = any(_revision_of(pod) == split.rolled_out for pod in counted)
    ready = ready and not split.deleting
    trouble = None if ready or version != split.version else _trouble(split, mine)
    return Readiness(len(counted), ready, trouble)


def _trouble(split: Split, pods: Iterable[Object]) -> Trouble | None:
    newest = [pod for pod in pods if _revision_of(pod) == split.created]
    found = trouble.of(split.live, newest)
    if found is not None or not split.taken_in:
        return found
    configuration = find((split.live.get("status") or {}).get("conditions") or (), "PredictorConfigurationReady") or {}
    if configuration.get("status") != "False":
        return None
    text = " ".join(str(configuration.get("message") or configuration.get("reason") or "no message").split())[:400]
    return Trouble("ServerNotCreated", f"Knative cannot start revision {split.created}: {text}")


def _revision_of(pod: Mapping[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get(REVISION_LABEL, ""))


def _is_ready(pod: Mapping[str, Any]) -> bool:
    ready = find((pod.get("status") or {}).get("conditions") or (), "Ready") or {}
    return ready.get("status") == "True" and not pod["metadata"].get("deletionTimestamp")


def model_url(split: Split, model: str) -> str | None:
    """Where clients send predictions; None until KServe says it."""
    url = (split.live.get("status") or {}).get("url")
    return f"{url}/v1/models/{model}:predict" if url else None
