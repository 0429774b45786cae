"""The four acts. Each waits for what users would wait for, and raises when it does not come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from slipway_demo.client import Counts, SteadyClient, remove, upload
from slipway_demo.install import EXAMPLE, Installed
from slipway_demo.story import Node, Story
from slipway_demo.world import Obj, condition, describe, status

PROJECT = "flight-delays"
ROLLOUT = "flight-delays"
DATASET = "flights"
FIRST_MONTHS = "2-3"
NEXT_MONTH = "4"
NEWCOMER = "OO"
"""SkyWest did not fly from New York in the months that train, and does later."""
RATE = 25.0
TRAINING_SECONDS = 300.0


@dataclass
class Facts:
    """What the table at the end tells."""

    versions: list[tuple[str, str, str]] = field(default_factory=list)
    """Version, score, what became of it."""
    broken_rules: list[str] = field(default_factory=list)
    rollback_seconds: float = 0.0
    rollback_reason: str = ""
    counts: Counts = field(default_factory=Counts)


class Play:
    """The acts in order, on one installed cluster.

    `namespace` other than the example's own makes a second project of the same files, with its own data and URL.
    """

    def __init__(self, installed: Installed, story: Story, namespace: str = "flights") -> None:
        self.world = installed.world
        self.cluster = installed.cluster
        self.story = story
        self.namespace = namespace
        self.prefix = "raw/" if namespace == "flights" else f"raw-{namespace}/"
        self.facts = Facts()
        self._clients: list[SteadyClient] = []

    def clear(self) -> None:
        """Removes what an earlier play left: the namespace and the source's objects. What is cached stays."""
        self.world.delete("Namespace", self.namespace, api_version="v1")
        self.world.wait(
            f"namespace {self.namespace} is gone",
            lambda: self.world.get("Namespace", self.namespace, api_version="v1") is None,
            timeout=180,
        )
        remove(self.cluster, self.prefix)

    # ---- acts --------------------------------------------------------------------------------------------------------
    def first_version(self, act: Node) -> None:
        """Months become a dataset version, features, a model, and a service that takes all requests."""
        with act.add(f"upload flights of months {FIRST_MONTHS}").running():
            upload(self.cluster, FIRST_MONTHS, prefix=self.prefix)
        with act.add("kubectl apply -f examples/flight-delays/manifests").running():
            self.apply()
        stable = self.healthy(act, "version 1 serves", lambda name: bool(name))
        self._note(stable, "promoted")
        with act.add("a steady client begins").running() as line:
            self.start_client()
            self._wait_until(lambda: self.counts().ok > RATE, "the client gets answers", 60)
            line.set(f"{RATE:.0f} requests a second")

    def poisoned_month(self, act: Node) -> None:
        """A month from a broken feed is blocked by a sentence; the last good version stays current."""
        before = status(self.get("Dataset", DATASET)).get("currentVersion")
        with act.add(f"upload month {NEXT_MONTH}, poisoned").running():
            upload(self.cluster, NEXT_MONTH, prefix=self.prefix, poison=True)
            self.refresh()
        with act.add("the version fails").running() as line:
            blocked = self.wait_for("Dataset", DATASET, _is_blocked, 120)
            failed = self.get("DatasetVersion", str(status(blocked)["latestVersion"]))
            broken = [
                v["message"] for v in (failed or {}).get("spec", {}).get("violations", []) if v["severity"] == "Block"
            ]
            self.facts.broken_rules = broken
            line.set(broken[0])
            for sentence in broken[1:5]:
                act.add("and").set(sentence, "done")
        now = status(self.get("Dataset", DATASET)).get("currentVersion")
        if now != before:
            raise AssertionError(f"the current version changed from {before} to {now}")
        act.add(f"{now} stays current").set("", "done")

    def second_version(self, act: Node) -> None:
        """The month arrives as it should be; version 2 is canaried while the operator is killed."""
        first = self.stable()
        with act.add(f"upload month {NEXT_MONTH}, as it should be").running():
            upload(self.cluster, NEXT_MONTH, prefix=self.prefix)
            self.refresh()
        with act.add("version 2 takes its first requests").running() as line:
            rollout = self.wait_for("ModelRollout", ROLLOUT, lambda o: 0 < _weight(o) < 100, TRAINING_SECONDS)
            line.set(f"{status(rollout)['candidate']} at {_weight(rollout)} %")
        with act.add("the operator is killed").running() as line:
            line.set(", ".join(self.world.kill_operator()))
        second = self.healthy(act, "version 2 serves", lambda name: name != first)
        self._note(second, "promoted; the operator was killed in mid-flight")

    def bad_version(self, act: Node) -> None:
        """Version 3 passes every gate, fails on a carrier that it never saw, and is rolled back."""
        second = self.stable()
        with act.add("change a parameter: unknown carriers are an error").running():
            self.world.patch(
                "ModelProject",
                PROJECT,
                {"spec": {"training": {"parameters": {"unknown_carriers": "error"}}}},
                self.namespace,
            )
        with act.add("version 3 passes its gates and takes its first requests").running() as line:
            rollout = self.wait_for("ModelRollout", ROLLOUT, lambda o: _weight(o) > 0, TRAINING_SECONDS)
            third = str(status(rollout)["candidate"])
            line.set(f"{third} at {_weight(rollout)} %")
        with act.add(f"a carrier that it never saw ({NEWCOMER}) begins to fly").running():
            self.start_client(newcomer=NEWCOMER)
            began = time.monotonic()
        with act.add("version 3 is rolled back").running() as line:
            rollout = self.wait_for("ModelRollout", ROLLOUT, lambda o: _rejected(o, third) is not None, 180, every=0.2)
            self.facts.rollback_seconds = time.monotonic() - began
            rejection = _rejected(rollout, third) or {}
            self.facts.rollback_reason = str(rejection.get("message", ""))
            line.set(f"after {self.facts.rollback_seconds:.1f} s: {self.facts.rollback_reason}")
        self._note(third, f"rolled back after {self.facts.rollback_seconds:.1f} s")
        self.healthy(act, "version 2 serves everyone again", lambda name: name == second)
        time.sleep(3)  # the client sees the newcomer served by version 2

    def apply(self) -> None:
        """Applies what the example's team writes, in this play's namespace."""
        self.world.apply_files(EXAMPLE / "manifests", change=self._here)

    def _here(self, document: Obj) -> Obj:
        if document["kind"] == "Namespace":
            document["metadata"]["name"] = self.namespace
        elif "namespace" in document["metadata"]:
            document["metadata"]["namespace"] = self.namespace
        if document["kind"] == "Dataset":
            source = document["spec"]["source"]["s3"]
            source["prefix"] = source["prefix"].replace("raw/", self.prefix)
        if document["kind"] == "ModelRollout" and self.namespace != "flights":
            document["spec"]["routing"]["path"] = f"/{self.namespace}"
        return document

    # ---- pieces ------------------------------------------------------------------------------------------------------
    def stable(self) -> str:
        """Name of the version that users can rely on."""
        return str(status(self.get("ModelRollout", ROLLOUT)).get("stable", ""))

    def counts(self) -> Counts:
        """What all clients have counted so far."""
        total = Counts()
        for client in self._clients:
            total.add(client.counters)
        return total

    def stop_clients(self) -> Counts:
        """Ends the clients and keeps what they counted."""
        self.facts.counts = Counts()
        for client in self._clients:
            self.facts.counts.add(client.stop())
        self._clients = []
        return self.facts.counts

    def url(self) -> str:
        """Where the model answers, as seen from this machine."""
        rollout = self.get("ModelRollout", ROLLOUT) or {}
        return f"{self.cluster.gateway_url}{rollout['spec']['routing']['path']}"

    def host(self) -> str | None:
        """Host header of the rollout, when it has one."""
        names = ((self.get("ModelRollout", ROLLOUT) or {}).get("spec", {}).get("routing", {})).get("hostnames") or []
        return str(names[0]) if names else None

    def start_client(self, newcomer: str | None = None) -> None:
        rate = RATE if newcomer is None else RATE * 2
        self._clients.append(SteadyClient(self.url(), model=ROLLOUT, rate=rate, host=self.host(), newcomer=newcomer))

    def _note(self, version: str, outcome: str) -> None:
        record = self.get("ModelVersion", version) or {}
        self.facts.versions.append((version, str(record.get("spec", {}).get("score", "")), outcome))

    def refresh(self) -> None:
        self.world.annotate("Dataset", DATASET, self.namespace, refresh=str(time.time_ns()))

    def get(self, kind: str, name: str) -> Obj | None:
        return self.world.get(kind, name, self.namespace)

    def healthy(self, act: Node, title: str, wanted: Callable[[str], bool]) -> str:
        with act.add(title).running() as line:
            rollout = self.wait_for(
                "ModelRollout",
                ROLLOUT,
                lambda o: status(o).get("phase") == "Healthy" and wanted(str(status(o).get("stable", ""))),
                TRAINING_SECONDS,
            )
            stable = str(status(rollout)["stable"])
            line.set(f"{stable} at 100 %")
        return stable

    def wait_for(self, kind: str, name: str, ready: Callable[[Obj], bool], timeout: float, every: float = 0.5) -> Obj:
        def look() -> Obj | None:
            found = self.get(kind, name)
            return found if found is not None and ready(found) else None

        found: Obj = self.world.wait(f"{kind} {name}", look, timeout=timeout, every=every, state=self.state)
        return found

    def _wait_until(self, ready: Callable[[], bool], what: str, timeout: float) -> None:
        self.world.wait(what, ready, timeout=timeout, state=lambda: str(self.counts()))

    def state(self) -> str:
        """Conditions of the whole chain, for a failed wait."""
        kinds = ("ModelProject", "Dataset", "FeatureSet", "TrainingRun", "ModelRollout")
        return " | ".join(describe(obj) for kind in kinds for obj in self.world.objects(kind, self.namespace)[-3:])


def _weight(rollout: Obj) -> int:
    told = status(rollout)
    return int(told.get("weight") or 0) if told.get("candidate") else 0


def _rejected(rollout: Obj, version: str) -> Obj | None:
    entries = status(rollout).get("rejected") or []
    return next((dict(entry) for entry in entries if entry["name"] == version), None)


def _is_blocked(dataset: Obj) -> bool:
    return condition(dataset).get("reason") == "QualityRulesBroken"
