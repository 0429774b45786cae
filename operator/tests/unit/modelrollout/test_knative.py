"""Rollouts in KServe's Knative mode, against a state machine of KServe that is derived from its source."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.search import examples, law
from unit.modelrollout.knative_world import STEPS, KnativeWorld
from unit.modelrollout.world import CHECKS, NAME, PROJECT, World

from slipway.adapters.measurements import Answer
from slipway.api.modelrollout import ModelRollout
from slipway.controllers.modelrollout.knative_limits import refusal
from slipway.runtime.controller import Delete
from slipway.runtime.resources import HTTP_ROUTE, INFERENCE_SERVICE, MODEL_ROLLOUT, Object

FIRST, SECOND, THIRD = (f"{PROJECT}-000000000{number}" for number in (1, 2, 3))


def serving(spec: Object | None = None) -> KnativeWorld:
    """A world in which a first version serves."""
    world = KnativeWorld(spec)
    world.serve_first()
    return world


def percent(world: KnativeWorld) -> int | None:
    service = world.service_object
    assert service is not None
    found: int | None = service["spec"]["predictor"].get("canaryTrafficPercent")
    return found


def come_to(world: KnativeWorld, step: str, limit: int = 60) -> None:
    for _ in range(limit):
        world.step()
        if world.status.step is not None and world.status.step.name == step:
            return
    raise AssertionError(f"not at {step}: {world.status}")


def abort(world: KnativeWorld, version: str) -> None:
    world.annotate(order=f"abort {version} #{version[-4:]} by dana")


# ---- the way of a version --------------------------------------------------------------------------------------------
def test_weights_become_canary_traffic_percent_and_a_version_is_one_revision() -> None:
    world = serving()
    world.add_version(2)
    seen = []
    for _ in range(60):
        world.step()
        seen.append(percent(world))
        if world.status.step is not None and world.status.step.name == "approval":
            world.annotate(promote=f"approval:{SECOND}")
    assert list(dict.fromkeys(seen)) == [0, 10, 50, 100, None]
    assert (world.status.stable, world.status.phase) == (SECOND, "Healthy")
    assert [each.version for each in world.play.revisions] == [FIRST, SECOND], "a weight alone makes no revision"
    assert world.play.shares() == {SECOND: 100}
    assert world.stores.list(HTTP_ROUTE) == []
    assert [each["metadata"]["name"] for each in world.stores.list(INFERENCE_SERVICE)] == [NAME]


def test_status_says_what_knative_really_splits() -> None:
    world = serving()
    world.add_version(2)
    come_to(world, "approval")
    world.step()
    found = {each.name: (each.role, each.desired_weight, each.accepted_weight) for each in world.status.versions or ()}
    assert found == {FIRST: ("Stable", 50, 50), SECOND: ("Candidate", 50, 50)}
    assert world.status.url == f"http://{NAME}.flights.example.com/v1/models/{NAME}:predict"


def test_a_rejected_version_gets_nothing_while_the_stable_one_makes_a_new_revision() -> None:
    world = serving()
    world.add_version(2)
    come_to(world, "approval")
    abort(world, SECOND)
    world.reconcile()
    assert percent(world) == 0
    for step in ("kserve", "configuration", "route", "kserve"):
        world.take(step)
        world.reconcile()
    assert [each.version for each in world.play.revisions] == [FIRST, SECOND, FIRST]
    assert not world.play.revisions[-1].ready
    assert world.play.shares() == {FIRST: 100}
    assert percent(world) == 0, "without it, all requests would go to the newest ready revision: the rejected one"
    world.run(10)
    assert percent(world) is None
    assert (world.status.phase, world.status.stable) == ("Healthy", FIRST)
    assert world.play.shares() == {FIRST: 100}


def test_a_version_that_does_not_start_never_gets_a_request() -> None:
    world = serving({"progressDeadline": "20s"})
    world.play.broken.add(SECOND)
    world.add_version(2)
    start = len(world.served)
    world.run(60)
    assert [each.name for each in world.status.rejected or ()] == [SECOND]
    assert all(each == {FIRST: 100} for each in world.served[start:])
    assert percent(world) is None


def test_a_newer_version_takes_the_place_of_one_that_was_rejected() -> None:
    world = serving()
    world.add_version(2)
    come_to(world, "watch")
    abort(world, SECOND)
    world.add_version(3)
    start = len(world.served) + 2
    come_to(world, "approval")
    assert {version for each in world.served[start:] for version in each} == {FIRST, THIRD}
    world.step()
    assert world.play.shares() == {FIRST: 50, THIRD: 50}


def test_no_version_is_written_before_kserve_has_made_a_revision_of_the_one_before() -> None:
    world = serving()
    world.add_version(2)
    world.reconcile()
    world.add_version(3)
    for _ in range(5):
        world.pass_time(1)
        world.reconcile()  # KServe is away
    service = world.service_object
    assert service is not None
    assert service["metadata"]["annotations"]["slipway.dev/modelversion"] == SECOND
    come_to(world, "approval")
    world.step()
    assert world.play.shares() == {FIRST: 50, THIRD: 50}


def test_where_kserve_goes_back_too_far_the_stable_version_is_made_anew_first() -> None:
    """Knative takes the split in before it makes the candidate's revision, and KServe's memory falls back by one."""
    world = serving({"steps": [{"name": "some", "setWeight": 20}, {"name": "all", "setWeight": 100}]})
    world.add_version(2)
    world.run(30)
    assert (world.status.stable, world.play.before) == (SECOND, "delays-predictor-00001")
    world.add_version(3)
    world.reconcile()
    for step in ("kserve", "route", "kserve"):
        world.take(step)
    assert world.play.rolled_out == "delays-predictor-00001", "KServe's own doing"
    seen: dict[str, int] = {}
    for _ in range(40):
        world.step()
        seen |= {name: max(share, seen.get(name, 0)) for name, share in world.play.shares().items()}
    assert (world.status.stable, world.status.phase) == (THIRD, "Healthy")
    assert world.play.shares() == {THIRD: 100}


def test_the_split_a_rejection_and_orders_survive_a_lost_status() -> None:
    world = serving()
    world.add_version(2)
    come_to(world, "watch")
    abort(world, SECOND)
    world.run(10)
    world.add_version(3)
    come_to(world, "approval")
    world.step()
    world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
    world.reconcile()
    assert (world.status.stable, world.status.candidate, world.status.weight) == (FIRST, THIRD, 50)
    assert [each.name for each in world.status.rejected or ()] == [SECOND]
    world.run(5)
    assert world.play.shares() == {FIRST: 50, THIRD: 50}


def test_going_back_to_the_version_before_makes_a_revision_and_skips_steps_within_the_window() -> None:
    steps = [{"name": "some", "setWeight": 20}, {"name": "wait", "pause": {"for": "5s"}}, STEPS[-1]]
    world = serving({"steps": steps, "rollback": {"window": {"versions": 1}}})
    world.add_version(2)
    world.run(30)
    assert world.status.stable == SECOND
    world.annotate(order=f"undo {SECOND} #abcd by dana")
    start = len(world.served)
    world.run(15)
    assert world.status.stable == FIRST
    assert world.play.shares() == {FIRST: 100}
    assert all(sum(each.values()) == 100 for each in world.served[start:])


def test_a_rollout_that_is_deleted_takes_its_inference_service_with_it() -> None:
    world = serving()
    world.rollout["metadata"]["deletionTimestamp"] = "2026-11-23T09:00:00Z"
    plan = world.reconcile()
    assert [each.key.name for each in plan.actions if isinstance(each, Delete)] == [NAME]
    assert plan.finalizer == "keep"
    plan = world.reconcile()
    assert (plan.actions, plan.finalizer) == ((), "drop")


def test_a_steady_state_writes_nothing() -> None:
    world = serving()
    world.run(5)
    before = world.writes
    world.run(20)
    assert world.writes == before


# ---- what cannot be done ---------------------------------------------------------------------------------------------
ALL = {"name": "all", "setWeight": 100}
ACCOUNT = {"name": "rebooking", "serviceAccountRef": {"namespace": "r", "name": "api"}, "purpose": "p", "contact": "c"}
GATEWAY_METRIC = {
    "name": "errors",
    "provider": {"gateway": {"metric": "successPercent"}},
    "successCondition": "result > 99",
}
REFUSED: list[tuple[Object, str, str]] = [
    (
        {
            "steps": [
                {
                    "name": "compare",
                    "experiment": {
                        "for": "1m",
                        "candidatePercent": 10,
                        "arms": [{"name": "b", "policy": "NewestPassing", "percent": 10}],
                    },
                },
                ALL,
            ]
        },
        "spec.steps[compare]",
        "experiment with b",
    ),
    ({"steps": [{"name": "shadow", "mirror": {"percent": 20, "for": "1m"}}, ALL]}, "spec.steps[shadow]", "20 %"),
    (
        {"steps": [{"name": "testers", "setHeaderRoute": {"match": [{"name": "x-a", "exact": "1"}]}}, ALL]},
        "spec.steps[testers]",
        "x-a",
    ),
    ({"steps": [{"name": "small", "setScale": {"replicas": 1}}, ALL]}, "spec.steps[small]", "replicas=1"),
    ({"steps": None, "strategy": {"shadow": {"for": "10m"}}}, "spec.strategy", "mirror"),
    ({"routing": {"path": "/delays", "hostnames": ["a.example.com"]}}, "spec.routing.hostnames", "a.example.com"),
    (
        {"routing": {"path": "/delays", "stickiness": {"cookie": "who", "for": "1h"}}},
        "spec.routing.stickiness",
        "cookie who",
    ),
    ({"rollback": {"retryOnStable": True}}, "spec.rollback.retryOnStable", "true"),
    ({"serving": {"capacity": "Partial"}}, "spec.serving.capacity", "Partial"),
    ({"serving": {"transformer": {"image": "prepare"}}}, "spec.serving.transformer", "prepare"),
    ({"serving": {"explainer": {"image": "explain"}}}, "spec.serving.explainer", "explain"),
    ({"serving": {"autoscaling": {}}}, "spec.serving.autoscaling", "HPA"),
    ({"serving": {"protocol": "grpc-v2"}}, "spec.serving.protocol", "grpc-v2"),
    ({"checks": CHECKS[:1]}, "spec.checks[success]", "prometheus"),
    ({"analysis": {"templates": [{"name": "gateway"}]}}, "AnalysisTemplate gateway, metric errors", "prometheus"),
    (
        {"analysis": {"postPromotion": {"templates": [{"name": "web"}]}}},
        "spec.analysis.postPromotion",
        "prePromotion",
    ),
]


@pytest.mark.parametrize(("spec", "field", "value"), REFUSED, ids=[each[1] for each in REFUSED])
def test_what_knative_cannot_do_is_refused_with_field_value_and_remedy(spec: Object, field: str, value: str) -> None:
    world = KnativeWorld({name: part for name, part in spec.items() if part is not None})
    if spec.get("steps", "") is None:
        del world.rollout["spec"]["steps"]
    world.add_template("gateway", GATEWAY_METRIC)
    world.add_version(1)
    world.run(3)
    stalled = world.condition("Stalled")
    assert stalled is not None
    assert stalled[:2] == ("True", "UnsupportedInKnative")
    assert field in stalled[2]
    assert value in stalled[2]
    assert world.service_object is None, "nothing is made before it is mended"


def test_consumers_are_refused() -> None:
    spec = ModelRollout.model_validate(KnativeWorld({"consumers": [ACCOUNT]}).rollout).spec
    found = refusal(spec, {})
    assert found is not None
    assert "spec.consumers: rebooking: Knative's gateway turns nobody away: remove them" in found.message


def test_a_field_that_is_refused_in_flight_stops_new_versions_and_not_the_one_that_serves() -> None:
    world = serving()
    world.add_version(2)
    come_to(world, "approval")
    world.edit(MODEL_ROLLOUT, NAME, {"spec": {"rollback": {"retryOnStable": True}}})
    world.run(3)
    ready, stalled = world.condition("Ready"), world.condition("Stalled")
    assert ready is not None
    assert ready[0] == "True"
    assert stalled is not None
    assert stalled[1] == "UnsupportedInKnative"
    abort(world, SECOND)
    world.run(3)
    assert world.play.shares() == {FIRST: 100}, "a way back is always open"


@pytest.mark.parametrize(("before", "after"), [("Knative", "Standard"), ("Standard", "Knative")])
def test_what_serves_keeps_its_mode_when_the_platform_changes_it(before: str, after: str) -> None:
    world: World = KnativeWorld() if before == "Knative" else World()
    world.serve_first()
    KnativeWorld.set_mode(world, after)  # type: ignore[arg-type]
    world.add_version(2)
    world.run(5)
    stalled, ready = world.condition("Stalled"), world.condition("Ready")
    assert stalled is not None
    assert stalled[:2] == ("True", "ServingModeChanged")
    assert ready is not None
    assert ready[0] == "True"
    services = world.stores.list(INFERENCE_SERVICE)
    assert {each["metadata"]["annotations"]["slipway.dev/modelversion"] for each in services} == {FIRST}


# ---- analysis --------------------------------------------------------------------------------------------------------
def test_a_template_that_does_not_need_the_gateway_judges_a_version() -> None:
    world = serving({"analysis": {"templates": [{"name": "errors"}]}})
    query = {
        "name": "errors",
        "interval": "2s",
        "provider": {"prometheus": {"address": "http://prometheus.monitoring:9090", "query": "x"}},
        "successCondition": "result < 0.01",
    }
    world.add_template("errors", query)
    world.probes.values["errors"] = [Answer(0.0), Answer(0.5)]
    world.add_version(2)
    world.run(30)
    assert [(each.name, each.reason) for each in world.status.rejected or ()] == [(SECOND, "AnalysisFailed")]
    assert world.play.shares() == {FIRST: 100}


def test_templates_get_the_names_of_revisions() -> None:
    world = serving()
    world.add_version(2)
    come_to(world, "watch")
    snapshot = world.observe()
    assert snapshot.backend_of(FIRST, "delays-0000000001") == "delays-predictor-00001"
    assert snapshot.backend_of(SECOND, "delays-0000000002") == "delays-predictor-00002"


# ---- laws ------------------------------------------------------------------------------------------------------------
NUMBERS = st.integers(2, 6)
EVENTS = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(["kserve", "configuration", "start", "route"])),
    st.tuples(st.just("reconcile"), st.none()),
    st.tuples(st.just("steps"), st.integers(1, 15)),
    st.tuples(st.just("new_version"), st.tuples(NUMBERS, st.booleans())),
    st.tuples(st.just("abort"), st.none()),
    st.tuples(st.just("promote"), st.none()),
    st.tuples(st.just("slow"), st.integers(0, 5)),
    st.tuples(st.just("kserve_away"), st.booleans()),
    st.tuples(st.just("status_lost"), st.none()),
    st.tuples(st.just("resize"), st.integers(1, 3)),
    st.tuples(st.just("pin"), st.one_of(st.none(), st.integers(1, 6))),
)


class Journey:
    """A world, and what must hold of the requests in it whatever happens in whatever order."""

    def __init__(self) -> None:
        self.world = serving({"progressDeadline": "15s"})
        self.last: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    def judge(self) -> None:
        shares, status = self.world.play.shares(), self.world.status
        assert not shares or sum(shares.values()) == 100, shares
        if status.candidate is not None:
            self.asked[status.candidate] = max(status.weight or 0, self.asked.get(status.candidate, 0))
        for version, share in shares.items():
            if version == status.stable or status.stable is None:
                continue
            allowed = self.asked.get(version, 0) if version == status.candidate else 0
            assert share <= max(allowed, self.last.get(version, 0)), f"{version} has {share} %, allowed: {allowed} %"
        rejected = {each.name for each in status.rejected or ()}
        assert status.stable not in rejected
        self.last = shares

    def happen(self, event: str, argument: Any) -> None:
        world = self.world
        if event == "take":
            if argument == "route":  # Knative makes revisions first; the other order is a test of its own
                world.take("configuration")
            if world.kserve_answering:
                world.take(argument)
        elif event == "reconcile":
            world.reconcile()
        elif event == "steps":
            for _ in range(argument):
                world.step()
                self.judge()
        elif event == "new_version":
            number, broken = argument
            version = f"{PROJECT}-{number:010x}"
            (world.play.broken.add if broken else world.play.broken.discard)(version)
            world.add_version(number)
        elif event == "abort":
            abort(world, world.status.candidate or FIRST)
        elif event == "promote":
            world.annotate(promote=f"approval:{world.status.candidate or FIRST}")
        elif event == "slow":
            world.play.slow = argument
        elif event == "kserve_away":
            world.kserve_answering = not argument
        elif event == "status_lost":
            world.put(MODEL_ROLLOUT, {**world.rollout, "status": {}})
            world.reconcile()
        elif event == "resize":
            world.edit(MODEL_ROLLOUT, NAME, {"spec": {"serving": {"replicas": {"min": argument, "max": 3}}}})
        elif event == "pin":
            world.pin(f"{PROJECT}-{argument:010x}" if argument else None)
        self.judge()


@law
@examples(6, 40)
@given(st.lists(EVENTS, min_size=1, max_size=25))
def test_requests_go_only_where_they_may_and_the_end_is_quiet(events: list[tuple[str, Any]]) -> None:
    journey = Journey()
    for event, argument in events:
        journey.happen(event, argument)
    journey.happen("kserve_away", False)
    journey.happen("pin", None)
    for turn in range(20):
        journey.happen("steps", 8)
        if journey.world.status.phase == "Healthy" and percent(journey.world) is None:
            break
        if journey.world.status.candidate is not None:
            journey.world.annotate(order=f"promote approval:{journey.world.status.candidate} #{turn:04d} by dana")
    assert journey.world.status.phase == "Healthy"
    assert journey.world.play.shares() == {journey.world.status.stable: 100}
    assert percent(journey.world) is None


# ---- the manifest ----------------------------------------------------------------------------------------------------
POD_FIELDS = {"serviceAccountName", "containers", "volumes", "imagePullSecrets", "enableServiceLinks"}
"""What Knative Serving 1.21 takes of a pod without feature flags: `PodSpecMask` in `pkg/apis/serving/fieldmask.go`."""
CONTAINER_FIELDS = {
    *("name", "args", "command", "env", "workingDir", "envFrom", "image", "imagePullPolicy", "livenessProbe", "ports"),
    *("readinessProbe", "resources", "securityContext", "startupProbe", "terminationMessagePath", "volumeMounts"),
    "terminationMessagePolicy",
}
"""And of a container: `ContainerMask`."""
KSERVE_FIELDS = {"minReplicas", "maxReplicas", "model", "annotations", "canaryTrafficPercent"}
MODEL_FIELDS = {"modelFormat", "runtime", "storageUri"}


def test_the_manifest_has_only_what_knative_takes() -> None:
    world = serving()
    service = world.service_object
    assert service is not None
    predictor = dict(service["spec"]["predictor"])
    assert predictor.pop("automountServiceAccountToken") is False, "Knative takes no other value"
    assert set(predictor) <= POD_FIELDS | KSERVE_FIELDS
    assert set(predictor["model"]) <= CONTAINER_FIELDS | MODEL_FIELDS
    notes = service["metadata"]["annotations"]
    assert notes["serving.kserve.io/deploymentMode"] == "Knative"
    written = {name for name in notes if name.startswith("slipway.dev/")} - {"slipway.dev/modelversion"}
    assert written <= set(predictor["annotations"]), "an annotation that changes without a fixed text makes revisions"
