"""What web calls say: the JSON that endpoints of hooks get, and requests made of questions and notices. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.adapters import alerts
from slipway.adapters.webhooks import Request
from slipway.api.meta import parse_duration
from slipway.api.reasons import Reason
from slipway.api.rollout_hooks import Alert, Hook, Notice, WebCall
from slipway.controllers.modelrollout.facts import Snapshot
from slipway.controllers.modelrollout.hooks import Ask
from slipway.controllers.modelrollout.state import State
from slipway.runtime.controller import Call

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds between tries to deliver a notice: doubled after each one."""

ENDS: Mapping[str, str] = {
    Reason.Promoted: "Succeeded",
    Reason.Stopped: "Succeeded",
    Reason.RolledBack: "Failed",
}
"""Flagger's phases for post-rollout hooks, by what ended the rollout of a version."""


def owner_of(snapshot: Snapshot) -> str:
    """The name under which a rollout's calls are kept."""
    return f"{snapshot.namespace}/{snapshot.name}"


def question(snapshot: Snapshot, state: State, ask: Ask, phase: str) -> Call:
    """Ask an endpoint about the present candidate."""
    body = {
        **_head(snapshot, ask.name, ask.type, phase),
        "checksum": _digest(snapshot, state, state.candidate).removeprefix("sha256:"),
        "step": state.position.name if state.position else "",
        "weight": state.weight,
        "stable": _version(snapshot, state, state.stable),
        "candidate": _version(snapshot, state, state.candidate),
        "token": ask.token,
        "metadata": ask.call.metadata,
    }
    return _to_endpoint(snapshot, ask.call, ask.key, ask.token, body, ask.longest_pause)


def tell_hook(snapshot: Snapshot, state: State, hook: Hook, notice: Notice, phase: str) -> Call:
    """Post a notice to a hook of type event or post-rollout."""
    said = {
        "eventMessage": notice.message,
        "eventType": "Normal" if notice.severity == "info" else "Warning",
        "eventReason": notice.reason,
        "timestamp": notice.at,
    }
    ended = hook.type == "post-rollout"
    body = {
        **_head(snapshot, hook.name, hook.type, ENDS.get(notice.reason, phase) if ended else phase),
        "checksum": _digest(snapshot, state, notice.version).removeprefix("sha256:"),
        "step": notice.step or "",
        "weight": notice.weight or 0,
        "stable": _version(snapshot, state, state.stable),
        "candidate": _version(snapshot, state, notice.version),
        "token": notice.token,
        "metadata": {**hook.metadata, **said},
    }
    return _to_endpoint(snapshot, hook, key_of(notice), notice.token, body, LONGEST_PAUSE)


def tell_people(snapshot: Snapshot, alert: Alert, notice: Notice) -> Call:
    """Send a notice to a receiver of alerts."""
    facts = (("version", notice.version), ("step", notice.step), ("weight", _percent(notice.weight)))
    message = alerts.Message(
        token=notice.token,
        rollout=snapshot.name,
        namespace=snapshot.namespace,
        severity=notice.severity,
        reason=notice.reason,
        text=notice.message,
        at=notice.at,
        facts=tuple((name, value) for name, value in facts if value),
    )
    request = Request(
        owner=owner_of(snapshot),
        key=key_of(notice),
        token=notice.token,
        url=None,
        secret=alert.secret_ref.name,
        body=alerts.body_of(alert.type, message),
        pause=FIRST_PAUSE,
        longest_pause=LONGEST_PAUSE,
        hosts=(*snapshot.allowed_hosts, *alerts.PUBLIC_HOSTS.get(alert.type, ())),
    )
    return _post(request)


def key_of(notice: Notice) -> str:
    """The key of a notice's delivery."""
    return f"notice:{notice.token}"


def _to_endpoint(
    snapshot: Snapshot, call: WebCall, key: str, token: str, body: Mapping[str, Any], longest_pause: float
) -> Call:
    request = Request(
        owner=owner_of(snapshot),
        key=key,
        token=token,
        url=call.url,
        secret=call.secret_ref.name if call.secret_ref else None,
        body=body,
        timeout=parse_duration(call.timeout).total_seconds(),
        retries=call.retries,
        pause=parse_duration(call.interval).total_seconds(),
        longest_pause=longest_pause,
        hosts=snapshot.allowed_hosts,
    )
    return _post(request)


def _post(request: Request) -> Call:
    return Call("webhooks", "post", {"request": request})


def _head(snapshot: Snapshot, name: str, type_: str, phase: str) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "namespace": snapshot.namespace,
        "phase": phase,
        "hook": name,
        "type": type_,
    }


def _percent(weight: int | None) -> str:
    return "" if weight is None else f"{weight} %"


def _digest(snapshot: Snapshot, state: State, name: str | None) -> str:
    if name is not None and name in snapshot.versions:
        return snapshot.versions[name].model.digest
    return state.members[name].digest if name in state.members else ""


def _version(snapshot: Snapshot, state: State, name: str | None) -> Mapping[str, str] | None:
    """Name and digest of a version, and the address of its servers inside of the cluster while it has some."""
    if name is None:
        return None
    found = {"name": name, "digest": _digest(snapshot, state, name)}
    server = snapshot.server_of(name)
    backend = snapshot.backend_of(name, server.name) if server is not None else ""
    if backend:
        # Its port is 80, which a URL does not name.
        found["url"] = f"http://{backend}.{snapshot.namespace}.svc"
    return found
