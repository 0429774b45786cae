"""A small project of the journeys' own: seven versions, made once, that many rollouts share.

A version of flights takes a minute to make. Here one takes seconds, all are made side by side, and rollouts pin the one
that they want to try. What training never saw (`STRANGE`) is what some versions do badly on: see `teams/parcels`.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import urllib.request
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from minio import Minio

from slipway.api.meta import API_VERSION, parse_time
from slipway_cluster.cluster import Cluster
from slipway_demo.client import Counts, SteadyClient, remove
from slipway_demo.install import Installed
from slipway_demo.story import Node, Story
from slipway_demo.world import Obj, World, condition, describe, status

TEAM = Path(__file__).resolve().parents[1] / "teams" / "parcels"
NAME = "parcels"
BUCKET = "slipway"
RATE = 25.0
ROWS = 4000
DEPOTS = ("north", "south", "east", "west")
STRANGE = "harbour"
VERSIONS = {
    "first": ("Ignore", 1),
    "second": ("Ignore", 2),
    "third": ("Ignore", 3),
    "failing": ("Fail", 1),
    "slow": ("Wait", 1),
    "alarmist": ("Alarm", 1),
    "broken": ("Ignore", 4),
}
"""What each version does with a stranger, and its seed. `broken` is like others until a journey breaks its file."""
MAKING_SECONDS = 600
CODE = "journeys.slipway.dev/code"
SMALL = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
CANARY: list[Obj] = [
    {"name": "some", "setWeight": 20},
    {"name": "watch-some", "analyze": {"for": "10s"}},
    {"name": "half", "setWeight": 50},
    {"name": "watch-half", "analyze": {"for": "5s"}},
    {"name": "everyone", "setWeight": 100},
]
CHECKS: list[Obj] = [
    {"name": "success", "metric": "successPercent", "min": "99", "minimumRequests": 20, "window": "30s"},
    {
        "name": "latency",
        "metric": "shareBelowMilliseconds",
        "bound": 1000,
        "min": "90",
        "minimumRequests": 20,
        "window": "30s",
    },
]


def rows(count: int = ROWS) -> str:
    """Parcels as CSV: late is who goes far in the morning or not far in the afternoon, with some exceptions."""
    chance, start = random.Random(7), datetime(2026, 1, 1)
    lines = ["id,sent_at,depot,kilometres,hour,late"]
    for number in range(count):
        kilometres, hour, depot = chance.randrange(1, 400), chance.randrange(24), chance.choice(DEPOTS)
        late = ((kilometres > 200) != (hour >= 12)) if chance.random() < 0.9 else chance.random() < 0.5
        at = start + timedelta(minutes=10 * number)
        lines.append(f"p{number},{at:%Y-%m-%d %H:%M:%S},{depot},{kilometres}.0,{hour},{str(late).lower()}")
    return "\n".join(lines) + "\n"


def instances(depots: Sequence[str], count: int = 500) -> str:
    """Parcels of these depots as instances of a request, one JSON object a line."""
    chance = random.Random(8)
    made = (
        {"depot": chance.choice(depots), "kilometres": float(chance.randrange(1, 400)), "hour": chance.randrange(24)}
        for _ in range(count)
    )
    return "\n".join(json.dumps(each) for each in made)


def _object(kind: str, name: str, spec: Obj) -> Obj:
    metadata = {"name": name} if kind == "Namespace" else {"name": name, "namespace": NAME}
    return {"apiVersion": "v1" if kind == "Namespace" else API_VERSION, "kind": kind, "metadata": metadata, **spec}


def project() -> list[Obj]:
    """Namespace, project and data. The project makes no versions by itself: journeys create the runs."""
    columns = {
        "id": "String",
        "sent_at": "Timestamp",
        "depot": "String",
        "kilometres": "Double",
        "hour": "Integer",
        "late": "Boolean",
    }
    goal = {"name": "rocAuc", "minimumImprovement": "0", "allowedRegression": "0.05"}
    return [
        _object("Namespace", NAME, {}),
        _object(
            "ModelProject",
            NAME,
            {
                "spec": {
                    "task": {"statement": "Will this parcel be late?", "target": "late"},
                    "requirements": {"optimize": {"metric": goal}, "ship": {"policy": "NeutralLaunch"}},
                }
            },
        ),
        _object(
            "Dataset",
            NAME,
            {
                "spec": {
                    "projectRef": {"name": NAME},
                    "source": {"type": "S3", "s3": {"prefix": f"raw-{NAME}/", "format": "Csv"}},
                    "pollInterval": "5s",
                    "key": ["id"],
                    "time": {"event": "sent_at"},
                    "columns": [{"name": name, "type": kind} for name, kind in columns.items()],
                    "labels": {"column": "late", "guide": {"uri": "https://example.com/late", "version": "1"}},
                    "splits": {"type": "Time", "time": {}},
                }
            },
        ),
    ]


def code_digest() -> str:
    """Digest of the team's code, and of what its versions are to be like."""
    parts = [VERSIONS, *(file.read_text() for file in sorted(TEAM.glob("*.py")))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _failed(run: Obj) -> bool:
    return bool(status(run).get("phase") == "Failed")


def run(version: str, dataset_version: str, image: str, code: str) -> Obj:
    """The run that makes one of VERSIONS; `code` is told by a label."""
    stranger, seed = VERSIONS[version]
    spec = {
        "projectRef": {"name": NAME},
        "datasetVersionRef": {"name": dataset_version},
        "inputs": ["depot", "kilometres", "hour"],
        "code": {"type": "Image", "image": {"name": image, "entrypoint": "parcels.train:train"}},
        "parameters": {"stranger": stranger},
        "seed": seed,
        "resources": SMALL,
    }
    made = _object("TrainingRun", f"{NAME}-{version}", {"spec": spec})
    made["metadata"]["labels"] = {CODE: code}
    return made


class Parcels:
    """The project on a cluster, with all its versions."""

    def __init__(self, installed: Installed, story: Story, folder: Path) -> None:
        self.world: World = installed.world
        self.cluster: Cluster = installed.cluster
        self.story = story
        self.versions: dict[str, str] = {}
        """ModelVersion by its name in VERSIONS."""
        self.regular, self.strange = folder / "regular.jsonl", folder / "strange.jsonl"
        self.regular.write_text(instances(DEPOTS))
        self.strange.write_text(instances([STRANGE]))

    def make(self) -> None:
        """All versions; those that an earlier session left are taken, as long as the team's code is the same."""
        with self.story.add("Versions of parcels").running() as line:
            code = code_digest()
            left = self.world.objects("TrainingRun", NAME)
            if any(each["metadata"].get("labels", {}).get(CODE) != code or _failed(each) for each in left):
                self.clear()
                left = []
            self._upload()
            self._apply(code, {each["metadata"]["name"] for each in left})
            for version in VERSIONS:
                self.versions[version] = self._made(version)
            line.set(", ".join(f"{name} is {version}" for name, version in self.versions.items()))

    def clear(self) -> None:
        """Removes the project, its data and its predictions."""
        self.world.delete("Namespace", NAME, api_version="v1")
        self.world.wait(
            f"namespace {NAME} is gone",
            lambda: self.world.get("Namespace", NAME, api_version="v1") is None,
            timeout=180,
        )
        for prefix in (f"raw-{NAME}/", f"predictions/{NAME}/"):
            remove(self.cluster, prefix)

    def store(self) -> Minio:
        """The artifact store, with all rights."""
        keys, address = self.cluster.s3_credentials(), urlsplit(self.cluster.s3_url).netloc
        return Minio(address, access_key=keys.access_key, secret_key=keys.secret_key, secure=False, region="us-east-1")

    def overwrite_model(self, version: str) -> None:
        """Puts other bytes where a version's model lies, as a careless clean-up or a broken disk would."""
        record = self.world.get("ModelVersion", self.versions[version], NAME) or {}
        place = urlsplit(str(record["spec"]["artifact"]))
        content, key = b"this is no model", f"{place.path.strip('/')}/model.joblib"
        self.store().stat_object(place.netloc, key)
        self.store().put_object(place.netloc, key, io.BytesIO(content), len(content))

    def _upload(self) -> None:
        store, content = self.store(), rows().encode()
        if not store.bucket_exists(BUCKET):
            store.make_bucket(BUCKET)
        store.put_object(BUCKET, f"raw-{NAME}/parcels.csv", io.BytesIO(content), len(content))

    def _apply(self, code: str, left: set[str]) -> None:
        for manifest in project():
            self.world.apply(manifest)
        dataset_version = self.world.wait(
            "a dataset version",
            lambda: status(self.world.get("Dataset", NAME, NAME)).get("currentVersion"),
            timeout=180,
            state=lambda: describe(self.world.get("Dataset", NAME, NAME)),
        )
        wanted = [version for version in VERSIONS if f"{NAME}-{version}" not in left]
        image = self.cluster.build_team_image(NAME, TEAM) if wanted else ""
        for version in wanted:
            self.world.apply(run(version, str(dataset_version), image, code))

    def _made(self, version: str) -> str:
        name = f"{NAME}-{version}"

        def look() -> Obj | None:
            found = self.world.get("TrainingRun", name, NAME)
            if found is not None and _failed(found):
                raise AssertionError(describe(found))
            return found if status(found).get("phase") == "Succeeded" else None

        found = self.world.wait(
            f"TrainingRun {name}",
            look,
            timeout=MAKING_SECONDS,
            state=lambda: describe(self.world.get("TrainingRun", name, NAME)),
        )
        made = str(status(found)["modelVersion"])
        record = self.world.wait(made, lambda: self.world.get("ModelVersion", made, NAME), timeout=30)
        assert record["spec"]["passed"], record["spec"]["verdicts"]
        return made


def _is_retiring(told: Obj) -> bool:
    return any(each["role"] == "Retiring" for each in told.get("versions") or ())


class Rollout:
    """One rollout of parcels' versions, and its clients."""

    def __init__(self, parcels: Parcels, name: str, **spec: Any) -> None:
        self.parcels, self.world, self.name = parcels, parcels.world, name
        self.node: Node = parcels.story.add(f"Rollout {name}")
        self._spec: Obj = {
            "projectRef": {"name": NAME},
            "routing": {"path": f"/{NAME}/{name}"},
            "serving": {"resources": SMALL},
            "checks": CHECKS,
            "rollback": {"automatic": True, "keepPrevious": "10m"},
            **spec,
        }
        self._clients: list[SteadyClient] = []
        self.close()  # what an aborted session left
        self.pin("first")

    # ---- what people do ----------------------------------------------------------------------------------------------
    def pin(self, version: str, **spec: Any) -> str:
        """Wants a version, with other words in the spec; None removes a field. Returns its ModelVersion."""
        wanted = self.parcels.versions[version]
        self._spec = {**self._spec, **spec, "version": {"policy": "Pinned", "modelVersionRef": {"name": wanted}}}
        kept = {name: value for name, value in self._spec.items() if value is not None}
        self.world.apply(_object("ModelRollout", self.name, {"spec": kept}))
        return wanted

    def annotate(self, **annotations: str) -> None:
        """Sets `slipway.dev/KEY` annotations."""
        self.world.annotate("ModelRollout", self.name, NAME, **annotations)

    def close(self) -> None:
        """Removes it, servers and all."""
        self.stop()
        self.world.delete("ModelRollout", self.name, NAME)
        self.world.wait(f"{self.name} is gone", lambda: self.get() is None, timeout=120, state=self.state)

    # ---- what they see -----------------------------------------------------------------------------------------------
    def get(self) -> Obj | None:
        """The object."""
        return self.world.get("ModelRollout", self.name, NAME)

    def state(self) -> str:
        """Its conditions, for a failed wait."""
        return describe(self.get())

    def until(self, what: str, ready: Callable[[Obj], Any], seconds: float = 120) -> Obj:
        """Its status as soon as `ready` says so."""

        def look() -> Obj | None:
            told = status(self.get())
            return told if ready(told) else None

        with self.node.add(what).running():
            found: Obj = self.world.wait(what, look, timeout=seconds, every=0.2, state=self.state)
        return found

    def serves(self, version: str, seconds: float = 180) -> Obj:
        """Waits until a version has all requests and nothing is on its way."""
        name = self.parcels.versions[version]

        def ready(told: Obj) -> bool:
            done = told.get("phase") == "Healthy" and told.get("stable") == name
            return bool(done and not told.get("candidate"))

        return self.until(f"{version} serves", ready, seconds)

    def back_to(self, version: str) -> None:
        """Whatever an earlier test left: this version serves everyone, by the steps that it began with."""
        self.pin(version)
        self.serves(version)

    def rejected(self, version: str, seconds: float = 180) -> Obj:
        """Waits until a version is rejected; the rejection. Says how long after its last step's begin that was."""
        name, steps = self.parcels.versions[version], ["it was wanted"]
        began = datetime.now(UTC)

        def entry(told: Obj) -> Obj | None:
            nonlocal began
            step = told.get("step") or {}
            if step and step["name"] != steps[-1]:
                steps.append(step["name"])
                began = parse_time(step["startedAt"])
            return next((dict(each) for each in told.get("rejected") or () if each["name"] == name), None)

        found = entry(self.until(f"{version} is rejected", entry, seconds)) or {}
        took = (parse_time(found["at"]) - began).total_seconds()
        self.node.add(f"{took:.1f} s after {steps[-1]}").set(found["message"], "done")
        return found

    def condition(self, kind: str) -> Obj:
        """One of its conditions; empty when there is none."""
        return condition(self.get(), kind)

    # ---- clients -----------------------------------------------------------------------------------------------------
    @property
    def url(self) -> str:
        """Where the model answers, as seen from this machine."""
        return f"{self.parcels.cluster.gateway_url}/{NAME}/{self.name}"

    def client(self, *, strange: bool = False) -> None:
        """A steady client begins, with parcels of known depots or of one that nobody knows; waits for its answers."""
        file = self.parcels.strange if strange else self.parcels.regular
        client = SteadyClient(self.url, model=self.name, rate=RATE, instances=file)
        self._clients.append(client)
        self.world.wait("answers", lambda: client.counters.get("sent", 0) > RATE, timeout=60)

    def counts(self) -> Counts:
        """What clients have counted so far, those that go on."""
        total = Counts()
        for client in self._clients:
            total.add(client.counters)
        return total

    def stop(self) -> Counts:
        """Ends the clients once no server is on its way out any more; what they have counted."""
        total = Counts()
        try:
            if self._clients:
                self.until("nothing is on its way out", lambda told: not _is_retiring(told), 60)
        finally:
            for client in self._clients:
                total.add(client.stop())
            self._clients = []
        if total.sent:
            said = f"{total.sent} requests, {total.version_errors} errors of a version, {total.lost} lost"
            self.node.add("clients").set(f"{said}; {total.versions}", "done")
        return total

    def ask(self, depot: str = "north", **headers: str) -> str:
        """The version that answers one request."""
        parcel = {"depot": depot, "kilometres": 120.0, "hour": 9}
        request = urllib.request.Request(
            f"{self.url}/v1/models/{self.name}:predict",
            data=json.dumps({"instances": [parcel]}).encode(),
            headers={"content-type": "application/json", **headers},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return str(answer.headers["x-slipway-version"])
