"""Follows a project's chain of objects, from dataset to rollout, and tells it to the story."""

from __future__ import annotations

import threading
from types import TracebackType

from slipway_demo.story import Node, State
from slipway_demo.world import Obj, World, condition, status

_KINDS = ("Dataset", "FeatureSet", "TrainingRun", "ModelVersion", "ModelRollout")


class Chain:
    """Polls a namespace once a second while it runs and shows the newest of each kind below one node."""

    def __init__(self, world: World, namespace: str, node: Node) -> None:
        self._world = world
        self._namespace = namespace
        self._node = node
        self._lines: dict[str, Node] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chain", daemon=True)

    def __enter__(self) -> Chain:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            try:
                for kind in _KINDS:
                    for obj in self._world.objects(kind, self._namespace)[-3:]:
                        self._tell(obj)
            except Exception as error:  # the story goes on while the API server is away
                self._node.set(f"the cluster did not answer: {type(error).__name__}")

    def _tell(self, obj: Obj) -> None:
        title = f"{obj['kind']} {obj['metadata']['name']}"
        line = self._lines.get(title)
        if line is None:
            line = self._lines[title] = self._node.add(title)
        detail, state = _TELL[obj["kind"]](obj)
        line.set(detail, state)


def _dataset(obj: Obj) -> tuple[str, State]:
    told, ready = status(obj), condition(obj)
    if ready.get("status") == "True":
        return f"{told.get('currentVersion')}, {told.get('rows', 0):,} rows", "done"
    failed = ready.get("reason") == "QualityRulesBroken"
    return ready.get("message", "")[:200], "failed" if failed else "running"


def _feature_set(obj: Obj) -> tuple[str, State]:
    ready = condition(obj)
    if ready.get("status") == "True":
        return f"online until {status(obj).get('materializedUntil')}", "done"
    return ready.get("message", "")[:120], "running"


def _run(obj: Obj) -> tuple[str, State]:
    told = status(obj)
    phase = told.get("phase", "Pending")
    if phase == "Succeeded":
        return f"{told.get('modelVersion')}", "done"
    if phase == "Failed":
        return condition(obj, "Succeeded").get("message", "")[:200], "failed"
    return f"{told.get('stage', 'Pending')} {told.get('progressPercent', 0)} %", "running"


def _version(obj: Obj) -> tuple[str, State]:
    spec = obj["spec"]
    failed = [verdict["message"] for verdict in spec["verdicts"] if verdict["verdict"] == "Failed"]
    gates = len(spec["verdicts"])
    if spec["passed"]:
        return f"score {spec['score']}, {gates} gates, none failed", "done"
    return f"score {spec['score']}: {failed[0] if failed else 'not passed'}"[:200], "failed"


def _rollout(obj: Obj) -> tuple[str, State]:
    told = status(obj)
    parts = [
        f"{v['name']} {v['desiredWeight']} %" + (f" (seen {seen} %)" if (seen := v.get("observedPercent")) else "")
        for v in told.get("versions") or []
    ]
    rejected = told.get("rejected") or []
    if rejected:
        parts.append(f"rejected {rejected[-1]['name']}: {rejected[-1]['reason']}")
    step = (told.get("step") or {}).get("name")
    detail = f"{told.get('phase', 'Waiting')}{f' at step {step}' if step else ''}  {' | '.join(parts)}"
    return detail, "done" if told.get("phase") == "Healthy" else "running"


_TELL = {
    "Dataset": _dataset,
    "FeatureSet": _feature_set,
    "TrainingRun": _run,
    "ModelVersion": _version,
    "ModelRollout": _rollout,
}
