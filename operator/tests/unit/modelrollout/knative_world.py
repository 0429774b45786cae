"""The played world with KServe in Knative mode: see `knative_play` for what is played and where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unit.modelrollout.knative_play import KnativePlay
from unit.modelrollout.world import NAME, NAMESPACE, World

from slipway.adapters.knative import REVISION_LABEL
from slipway.adapters.kserve import POD_LABEL
from slipway.runtime.compare import with_hash
from slipway.runtime.controller import Io
from slipway.runtime.errors import NotFound
from slipway.runtime.resources import INFERENCE_SERVICE, PLATFORM, POD, Object, ResourceType

STEPS: list[Object] = [
    {"name": "first-users", "setWeight": 10},
    {"name": "watch", "pause": {"for": "10s"}},
    {"name": "half", "setWeight": 50},
    {"name": "approval", "pause": {"until": "Promoted"}},
    {"name": "everyone", "setWeight": 100},
]
DEFAULT: Object = {"routing": {"path": "/delays"}, "steps": STEPS, "checks": []}


class _Plain:
    """An API server without Envoy Gateway's kinds."""

    async def serves(self, type_: ResourceType) -> bool:  # noqa: ARG002 - a client's
        return False

    async def document(self, path: str) -> Object:
        raise NotFound(404, "NotFound", path)


class KnativeWorld(World):
    """One rollout in Knative mode."""

    def __init__(self, spec: Mapping[str, Any] | None = None) -> None:
        super().__init__({**DEFAULT, **(spec or {})})
        self._io = Io(self.stores, _Plain(), self._clock)  # type: ignore[arg-type]
        self.play = KnativePlay()
        self.served: list[dict[str, int]] = []
        """Percent of requests by version, a second each."""
        self.set_mode("Knative")

    def set_mode(self, mode: str) -> None:
        platform = self.stores.get(PLATFORM.key("default"))
        assert platform is not None
        self.put(PLATFORM, {**platform, "spec": {**platform["spec"], "serving": {"mode": mode}}})

    def _apply(self, manifest: Mapping[str, Any]) -> None:
        super()._apply(with_hash(manifest))  # as the runtime does: an annotation that changes with each weight

    @property
    def service_object(self) -> Object | None:
        return self.get(INFERENCE_SERVICE, NAME)

    def take(self, step: str) -> None:
        """One step of KServe or Knative."""
        service = self.service_object
        if service is None:
            self.play = KnativePlay(self.play.broken, self.play.slow)
        elif step == "kserve":
            status = self.play.kserve(service)
            if service.get("status") != status:
                self.put(INFERENCE_SERVICE, {**service, "status": status})
        else:
            getattr(self.play, step)()
        self._set_pods()

    def let_kserve_work(self) -> None:
        if self.kserve_answering:
            for step in ("kserve", "configuration", "start", "configuration", "route", "kserve"):
                self.take(step)

    def let_gateway_work(self) -> None:
        pass

    def pass_time(self, seconds: float) -> None:
        super().pass_time(seconds)
        self.served += [self.play.shares()] * int(seconds)

    def _set_pods(self) -> None:
        wanted = self.play.servers()
        for pod in self.stores.list(POD, NAMESPACE, {POD_LABEL: NAME}):
            if pod["metadata"]["labels"][REVISION_LABEL] not in wanted:
                self.remove(POD, pod["metadata"]["name"])
        for revision in wanted:
            if self.get(POD, revision) is None:
                labels = {POD_LABEL: NAME, REVISION_LABEL: revision}
                ready = {"conditions": [{"type": "Ready", "status": "True"}]}
                metadata = {"name": revision, "namespace": NAMESPACE, "labels": labels}
                self.put(POD, {"metadata": metadata, "status": ready})
