"""Who may call: from declared consumers to policies, guarded routes, and what is said about both. Pure.

Nobody is let in on trust. A new route is closed - it asks for a header whose value nobody knows - until the gateway has
accepted the policies. One that was open when consumers were declared stays open for a moment, since it was open before;
it is closed when the gateway has not accepted the policies by then, or cannot. A policy that the gateway has accepted
in an earlier form goes on to be in force while it takes in the newest.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256

from slipway.adapters import access
from slipway.adapters.access import Credentials, Guarded, Limit, Standing
from slipway.adapters.gateway import pin_of
from slipway.api.meta import parse_time
from slipway.api.reasons import Reason
from slipway.api.rollout_consumers import Consumer, ConsumerStatus
from slipway.contracts.callers import CLIENT_HEADER, SUBJECT_HEADER
from slipway.controllers.modelrollout.access_facts import AccessFacts, LivePolicy, policy_key
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.layout import Layout
from slipway.runtime.conditions import Conditions, timestamp
from slipway.runtime.controller import Action, Apply, Delete
from slipway.runtime.resources import HTTP_ROUTE, Object

GRACE = timedelta(seconds=30)
"""How long an open route stays open while the gateway has said nothing about the first policies."""
USAGE_EVERY = timedelta(seconds=30)
"""How often what consumers did is written; also how soon a changed Secret is noticed."""
WAITING = 5.0
"""Seconds between looks while the policies are not in force."""

_POLICY, _LIMITS, _NETWORK = "SecurityPolicy", "BackendTrafficPolicy", "NetworkPolicy"


def admit(snapshot: Snapshot, layout: Layout, now: datetime) -> Layout:
    """The layout with guarded routes and with the policies; without consumers, without what is left of them."""
    if not _wanted(snapshot):
        return replace(layout, actions=(*layout.actions, *_remove(snapshot, keep=frozenset())))
    closed = "" if is_open(snapshot, now) else snapshot.access.closed or _secret_word(snapshot)
    actions = tuple(_guarded(snapshot, each, closed) for each in layout.actions)
    routes = [dict(each.manifest) for each in actions if _is_route(each) and isinstance(each, Apply)]
    return replace(layout, actions=(*actions, *_policies(snapshot, routes)))


def _wanted(snapshot: Snapshot) -> bool:
    return bool(snapshot.rollout.spec.consumers) and snapshot.knative is None


def _serving(snapshot: Snapshot) -> list[Consumer]:
    return [each for each in snapshot.rollout.spec.consumers if "Serving" in each.access]


def _key_consumers(snapshot: Snapshot) -> list[Consumer]:
    return [each for each in _serving(snapshot) if each.api_key is not None]


def _subjects(snapshot: Snapshot) -> list[str]:
    accounts = [each.service_account_ref for each in _serving(snapshot) if each.service_account_ref is not None]
    return [access.subject(each.namespace, each.name) for each in accounts]


def _credentials(snapshot: Snapshot) -> Credentials:
    """What callers may use. Rules for keys that are there stay while there are keys: no caller is turned away while
    rules and policies change places."""
    keys = bool(_key_consumers(snapshot))
    apart = f"{_POLICY}/{access.keys_policy_name(snapshot.name)}" in snapshot.access.policies
    if keys:
        return "Both" if _subjects(snapshot) or apart else "Keys"
    return "Tokens" if _subjects(snapshot) else "Neither"


def _secret_word(snapshot: Snapshot) -> str:
    return sha256(f"{snapshot.token}/closed".encode()).hexdigest()[:32]


# ---- open or closed --------------------------------------------------------------------------------------------------
def is_open(snapshot: Snapshot, now: datetime) -> bool:
    """Whether callers may reach the route: its policies are in force, or a person wants it without."""
    if not _wanted(snapshot) or snapshot.rollout.spec.access_control.when_unsupported == "Serve":
        return True
    needed = _needed(snapshot).values()
    words = {each.standing.word if each is not None else "Missing" for each in needed}
    if words == {"Accepted"}:
        return True
    if not snapshot.access.served or snapshot.other_gateway or "Refused" in words or not _was_open(snapshot):
        return False
    return all(each is None or _is_young(each, now) or _is_behind(each.standing) for each in needed)


def _is_young(policy: LivePolicy, now: datetime) -> bool:
    return timedelta() <= now - policy.created <= GRACE


def _is_behind(standing: Standing) -> bool:
    """Whether the gateway misses something that an older form of a policy names: a rule that went just before."""
    return standing.word == "Accepted" or (
        standing.word == "Pending" and bool(standing.message) and not standing.newest
    )


def _needed(snapshot: Snapshot) -> dict[str, LivePolicy | None]:
    """The policies without which the route is open to all, by name; None where there is none yet."""
    names = [access.policy_name(snapshot.name)]
    if _credentials(snapshot) == "Both":
        names.append(access.keys_policy_name(snapshot.name))
    return {name: snapshot.access.policies.get(f"{_POLICY}/{name}") for name in names}


def _was_open(snapshot: Snapshot) -> bool:
    return snapshot.route is not None and not snapshot.access.closed


# ---- actions ---------------------------------------------------------------------------------------------------------
def _is_route(action: Action) -> bool:
    return isinstance(action, Apply) and action.manifest.get("kind") == HTTP_ROUTE.kind


def _guarded(snapshot: Snapshot, action: Action, closed: str) -> Action:
    if not isinstance(action, Apply) or not _is_route(action):
        return action
    is_pin = str(action.manifest["metadata"]["name"]).startswith(f"{snapshot.name}-pin-")
    # A pin route asks for a value that nobody knows already.
    guarded = access.guard(
        dict(action.manifest),
        _credentials(snapshot),
        closed="" if is_pin else closed,
        passed_on=snapshot.rollout.spec.serving.transformer is not None,
    )
    return replace(action, manifest=guarded)


def _policies(snapshot: Snapshot, routes: Sequence[Object]) -> list[Action]:
    """Routes are written before, policies after, so that no rule is named that is not there yet."""
    facts, spec = snapshot.access, snapshot.rollout.spec
    if snapshot.parent is None:
        return []
    guarded = Guarded(snapshot.namespace, snapshot.name, spec.project_ref.name)
    actions: list[Action] = [*_keys(guarded, facts)]
    keep: set[str] = set()
    if facts.served:
        credentials, keys_policy = _credentials(snapshot), access.keys_policy_name(snapshot.name)
        apart = facts.policies.get(f"{_POLICY}/{keys_policy}")
        rules = {rule for route in routes for rule in access.key_rules(route)}
        if credentials == "Both" and rules:
            # Rules of routes that are left as they are in this pass stay covered.
            rules |= _still_there(snapshot, apart, routes) if apart else set()
            actions.append(Apply(access.keys_policy(guarded, sorted(rules))))
            keep.add(f"{_POLICY}/{keys_policy}")
            if apart is None or apart.standing.word != "Accepted":
                credentials = "Keys"  # callers with a key have no other way in until then
        actions.append(Apply(access.policy(guarded, credentials, facts.issuer, _subjects(snapshot))))
        keep.add(f"{_POLICY}/{access.policy_name(snapshot.name)}")
        limits = _limits(snapshot)
        if limits:
            actions.append(Apply(access.limits(guarded, limits)))
            keep.add(f"{_LIMITS}/{access.limits_name(snapshot.name)}")
    if facts.proxy_namespaces:
        policy = access.network_policy(
            guarded,
            snapshot.parent,
            facts.proxy_namespaces,
            facts.operator_namespace,
            among_themselves=spec.serving.transformer is not None or spec.serving.explainer is not None,
        )
        actions.append(Apply(policy))
    keep.add(f"{_NETWORK}/{access.policy_name(snapshot.name)}")
    return [*actions, *_remove(snapshot, frozenset(keep))]


def _still_there(snapshot: Snapshot, policy: LivePolicy, written: Sequence[Object]) -> set[tuple[str, str]]:
    """Rules of routes that this pass does not write. Of those that it writes, a rule that went may not be named."""
    routes = {snapshot.name, *(pin_of(service, snapshot.name) for service in snapshot.pins)}
    routes -= {each["metadata"]["name"] for each in written}
    return {target for target in policy.targets if target[0] in routes}


def _keys(guarded: Guarded, facts: AccessFacts) -> list[Action]:
    """The gateway's copy of all keys. One Secret that is missing then keeps out one consumer, and not all."""
    if dict(facts.stored_keys or {}) == dict(facts.keys):
        return []
    encoded = {name: b64encode(value.encode()).decode() for name, value in sorted(facts.keys.items())}
    return [Apply(access.keys_secret(guarded, encoded))]


def _limits(snapshot: Snapshot) -> list[Limit]:
    found = []
    for each in _serving(snapshot):
        if each.rate_limit is not None:
            account, limit = each.service_account_ref, each.rate_limit
            named = (
                (SUBJECT_HEADER, access.subject_pattern(account.namespace, account.name))
                if account
                else (CLIENT_HEADER, access.key_pattern(each.name))
            )
            found.append(Limit(*named, limit.requests, limit.per))
    return found


def _remove(snapshot: Snapshot, keep: frozenset[str]) -> list[Action]:
    return [
        Delete(policy_key(name, snapshot.namespace), live.uid)
        for name, live in sorted(snapshot.access.policies.items())
        if name not in keep
    ]


# ---- what is said ----------------------------------------------------------------------------------------------------
def state_access(conditions: Conditions, snapshot: Snapshot, now: datetime) -> None:
    """`AccessEnforced`, only with consumers; what else is amiss only while it is: `ConsumersAdmitted` when one of them
    cannot be let in, `RateLimitsEnforced` when the gateway refuses their limits."""
    if not _wanted(snapshot):
        return
    reason, message = why_not_enforced(snapshot)
    if not reason:
        conditions.true("AccessEnforced", Reason.PoliciesAccepted, "The gateway turns undeclared callers away.")
    elif snapshot.rollout.spec.access_control.when_unsupported == "Serve":
        conditions.false(
            "AccessEnforced", reason, f"{message} Everybody is served, as spec.accessControl.whenUnsupported says."
        )
    else:
        served = "The route stays open until it does." if is_open(snapshot, now) else "Nobody is served until it does."
        conditions.false("AccessEnforced", reason, f"{message} {served}")
    problems = [*snapshot.access.problems]
    if snapshot.access.issuer is None and any(each.service_account_ref is not None for each in _serving(snapshot)):
        problems.append("The API server does not tell who signs tokens of ServiceAccounts: none of them is let in.")
    if problems:
        conditions.false("ConsumersAdmitted", Reason.CredentialUnusable, " ".join(problems))
    limits = snapshot.access.policies.get(f"{_LIMITS}/{access.limits_name(snapshot.name)}")
    if limits is not None and limits.standing.word == "Refused" and _limits(snapshot):
        message = (
            f"The gateway refuses BackendTrafficPolicy {access.limits_name(snapshot.name)}:"
            f" {limits.standing.message} Declared consumers are served without rate limits until it accepts it."
        )
        conditions.false("RateLimitsEnforced", Reason.PolicyRefused, message)


def why_not_enforced(snapshot: Snapshot) -> tuple[str, str]:
    """Reason and sentence; two empty texts when undeclared callers are turned away."""
    if not snapshot.access.served:
        return (
            Reason.EnforcementUnsupported,
            "Declared consumers need Envoy Gateway: this cluster does not serve SecurityPolicy and"
            " BackendTrafficPolicy of gateway.envoyproxy.io.",
        )
    for name, live in _needed(snapshot).items():
        if live is not None and live.standing.word == "Refused":
            return Reason.PolicyRefused, f"The gateway refuses SecurityPolicy {name}: {live.standing.message}"
    for name, live in _needed(snapshot).items():
        if snapshot.other_gateway and (live is None or live.standing.word == "Pending"):
            return Reason.EnforcementUnsupported, f"Declared consumers need Envoy Gateway: {snapshot.other_gateway}."
        if live is None or live.standing.word == "Pending":
            return Reason.PolicyPending, f"The gateway has not accepted SecurityPolicy {name} yet."
    return "", ""


def why_closed(snapshot: Snapshot) -> tuple[str, str]:
    """Reason and sentence for a route that serves nobody though a version could."""
    reason, message = why_not_enforced(snapshot)
    return reason, f"Nobody is served. {message}"


def report_consumers(snapshot: Snapshot, now: datetime) -> dict[str, object]:
    """The part of the status about what consumers did; the same as before until half a minute is over."""
    if not _wanted(snapshot):
        return {}
    status = snapshot.rollout.status
    written = parse_time(status.consumers_at) if status.consumers_at else None
    names = [each.name for each in _serving(snapshot)]
    known = [each.name for each in status.consumers or ()]
    if written is not None and names == known and timedelta() <= now - written < USAGE_EVERY:
        return {"consumers": [each.wire() for each in status.consumers or ()], "consumersAt": status.consumers_at}
    rows = [_row(snapshot, name).wire() for name in names]
    if rows == [each.wire() for each in status.consumers or ()] and written is not None:
        return {"consumers": rows, "consumersAt": status.consumers_at}
    return {"consumers": rows, "consumersAt": timestamp(now)} if rows else {}


def _row(snapshot: Snapshot, name: str) -> ConsumerStatus:
    usage = snapshot.access.usage.get(name)
    if usage is None:
        return ConsumerStatus(name=name)
    seen = timestamp(usage.last_seen) if usage.last_seen else None
    return ConsumerStatus(name=name, requests=usage.requests, errors=usage.errors, last_seen=seen)


def next_look(snapshot: Snapshot, now: datetime) -> float | None:
    """Seconds until credentials, usage and a time of grace are looked at again: no watch tells of them."""
    if not _wanted(snapshot):
        return None
    settled = is_open(snapshot, now) and not why_not_enforced(snapshot)[0]
    return USAGE_EVERY.total_seconds() if settled else WAITING
