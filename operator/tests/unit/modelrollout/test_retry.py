"""`rollback.retryOnStable`: when the gateway is patched, with what, and what is said where that cannot be."""

from __future__ import annotations

import re
from typing import Any

import pytest
from unit.modelrollout.test_access import PARENT, ROUTED, SITE, Guards, stated
from unit.modelrollout.world import NAME, NAMESPACE

from slipway.adapters import access, retry
from slipway.adapters import gateway as gw
from slipway.adapters.envoy_stats import parse
from slipway.controllers.modelrollout.retry_facts import RetryFacts
from slipway.runtime.controller import Apply, Delete
from slipway.runtime.errors import Forbidden
from slipway.runtime.resources import ENVOY_PATCH_POLICY, MODEL_ROLLOUT, Key, Object


# ---- the patch -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("credentials", "rules"), [("Keys", [0]), ("Both", [0, 1])])
def test_the_rules_that_split_requests_are_patched_whatever_their_host_names(
    credentials: Any, rules: list[int]
) -> None:
    route = access.guard(gw.weighted_route(ROUTED, [("a", 95), ("b", 5)]), credentials)
    manifest = retry.policy(NAMESPACE, NAME, PARENT, "http", route)
    assert manifest["metadata"] == {"name": "slipway-retry-flights-delays", "namespace": "slipway-system"}
    patches = manifest["spec"]["jsonPatches"]
    assert [each["name"] for each in patches] == ["slipway-system/models/http"] * len(rules)
    for rule, patch in zip(rules, patches, strict=True):
        path = re.fullmatch(r"\.\.routes\[\?\(@\.name =~ /(.*)/\)\]\.route", patch["operation"]["jsonPath"])
        assert path is not None
        for host in ("*", "m_example_com"):
            assert re.match(path.group(1), f"httproute/flights/delays/rule/{rule}/match/0/{host}")
        for other in ("delays-pin-1/rule/0", "delays/rule/10", "delays2/rule/0"):
            assert not re.match(path.group(1), f"httproute/flights/{other}/match/0/*")
        value = patch["operation"]["value"]
        assert value["refresh_cluster_on_retry"] is True
        assert value["num_retries"] == 1


def test_answers_after_which_the_gateway_asked_again_count() -> None:
    label = 'envoy_cluster_name="service/n/a/80/http"'
    text = (
        f'envoy_cluster_retry_upstream_rq_xx{{envoy_response_code_class="5",{label}}} 4\n'
        f'envoy_cluster_upstream_rq_xx{{envoy_response_code_class="2",{label}}} 6\n'
    )
    counters = parse(text).counters["service/n/a/80/http"]
    assert (counters.answered, counters.failed) == (10, 4)


def both(accepted: str, programmed: str | None) -> Object:
    entry = stated(accepted, 2)
    if programmed:
        entry["conditions"].append({**entry["conditions"][0], "type": "Programmed", "status": programmed})
    return {"metadata": {"generation": 2}, "status": {"ancestors": [entry]}}


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (both("True", "True"), "Accepted"),
        (both("True", None), "Pending"),
        (both("True", "False"), "Refused"),
        (both("False", None), "Refused"),
        ({"metadata": {"generation": 2}}, "Pending"),
    ],
)
def test_what_the_gateway_says_about_the_patch(found: Object, word: str) -> None:
    assert retry.standing(found, PARENT).word == word


# ---- a rollout -------------------------------------------------------------------------------------------------------
class Patched(Guards):
    """A world in which the gateway can be patched."""

    def __init__(self, consumers: list[Object]) -> None:
        self.patch: Object | None = None
        self.verdict: tuple[str, str | None] = ("True", "True")
        self.allowed = True
        super().__init__(consumers, rollback={"retryOnStable": True})
        self._io.live = self._live  # type: ignore[method-assign]

    async def _live(self, key: Key) -> Object | None:
        assert key == ENVOY_PATCH_POLICY.key("slipway-retry-flights-delays", "slipway-system")
        if not self.allowed:
            raise Forbidden(403, "Forbidden", "no")
        return self.patch

    def execute(self, action: object) -> None:
        if isinstance(action, Apply) and action.manifest["kind"] == "EnvoyPatchPolicy":
            assert not action.owned, "it stands in another namespace"
            meta = {**action.manifest["metadata"], "uid": "patch", "generation": 2}
            self.patch = {**action.manifest, "metadata": meta, "status": both(*self.verdict)["status"]}
        elif isinstance(action, Delete) and action.key.type == ENVOY_PATCH_POLICY:
            assert action.uid == "patch"
            self.patch = None
        else:
            super().execute(action)


def test_the_gateway_is_patched_while_requests_are_split() -> None:
    world = Patched([])
    world.serve_first()
    assert world.patch is None
    assert world.condition("RetryOnStable") is None
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(2)
    assert world.patch is not None
    assert (world.condition("RetryOnStable") or ("",))[0] == "True"
    world.run_until("Healthy")
    world.run(3)
    assert world.patch is None
    assert world.condition("RetryOnStable") is None


def test_a_failing_candidate_is_rolled_back_all_the_same() -> None:
    world = Patched([])
    world.serve_first()
    second = world.add_version(2, failing=60)
    world.run_until("Healthy")
    world.run(3)
    assert [each.name for each in world.status.rejected or ()] == [second]
    assert world.patch is None


@pytest.mark.parametrize(
    ("obstacle", "says"),
    [
        ("not served", "does not serve EnvoyPatchPolicy"),
        ("not allowed", "rbac.envoyPatchPolicies=true"),
        ("disabled", "The gateway does not repeat failed requests: m"),
    ],
)
def test_where_it_cannot_be_the_rollout_goes_on_and_says_so(obstacle: str, says: str) -> None:
    world = Patched([])
    world.cluster.served = obstacle != "not served"
    world.allowed = obstacle != "not allowed"
    if obstacle == "disabled":
        world.verdict = ("False", None)
    world.serve_first()
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(2)
    word, reason, message = world.condition("RetryOnStable") or ("", "", "")
    assert (word, reason) == ("False", "RetryUnsupported")
    assert says in message
    world.run_until("Healthy")


def test_nothing_is_left_of_a_rollout_that_is_deleted() -> None:
    world = Patched([])
    world.serve_first()
    world.add_version(2)
    world.run_until("Analyzing")
    world.run(2)
    assert world.patch is not None
    obj = world.rollout
    world.put(MODEL_ROLLOUT, {**obj, "metadata": {**obj["metadata"], "deletionTimestamp": world.now.isoformat()}})
    world.run(30)
    assert world.patch is None


def test_rollouts_that_do_not_want_it_ask_nothing() -> None:
    world = Guards([SITE])
    world.serve_first()  # its client is None: a question would fail
    assert world.observe().retry == RetryFacts()
