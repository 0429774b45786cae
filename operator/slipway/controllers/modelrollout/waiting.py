"""What a candidate's servers wait for: whether that counts against the version, or is the platform's to mend. Pure."""

from __future__ import annotations

from slipway.adapters.kserve import Trouble
from slipway.api.modelrollout import ModelRolloutStatus
from slipway.api.platform import Platform
from slipway.api.reasons import Reason
from slipway.controllers.modelrollout.facts import Server

TOLD_AFTER = 60.0
"""Seconds after which KServe's silence is told."""
_UNCOUNTED = "The time does not count against the version."


def excuse(server: Server | None, platform: Platform | None, *, revisions: bool = False) -> Trouble | None:
    """Why missing servers are no fault of the version; None when nothing is known to be amiss.

    :param revisions: Knative mode, where servers of the version's earlier revisions answer while the newest does not
    """
    if server is None or server.ready or server.deleting:
        return None
    readiness, name = server.readiness, server.name
    if not readiness.heard and readiness.trouble is None:
        message = (
            f"KServe says nothing about InferenceService {name}: look whether KServe's controller runs. {_UNCOUNTED}"
        )
        return Trouble(Reason.KServeSilent, message)
    enough = readiness.answers and readiness.endpoints >= server.wanted and not revisions
    if enough and readiness.trouble is None:
        message = (
            f"Servers of InferenceService {name} answer, and KServe does not call it ready: `kubectl describe"
            f" inferenceservice {name}` says why; look whether KServe's controller runs. {_UNCOUNTED}"
        )
        return Trouble(Reason.KServeSilent, message)
    return _platform_trouble(name, readiness.trouble, platform)


def _platform_trouble(name: str, trouble: Trouble | None, platform: Platform | None) -> Trouble | None:
    if trouble is None:
        what = f"Servers of InferenceService {name} are not ready, and the Platform's online store does not answer:"
        return _away(platform, "features", what)
    if trouble.reason == Reason.ArtifactUnavailable:
        what = "The model cannot be downloaded because the Platform's artifact store does not answer:"
        return _away(platform, "artifacts", what)
    if trouble.reason == Reason.PodsRefused and "failed calling webhook" in trouble.message:
        return Trouble(trouble.reason, f"{trouble.message} {_UNCOUNTED}")
    return None


def _away(platform: Platform | None, part: str, what: str) -> Trouble | None:
    """What the Platform says of a part that does not answer."""
    connections = (platform.status.connections or ()) if platform is not None else ()
    said = next((each.message for each in connections if each.name == part and not each.ready), None)
    return Trouble(Reason.PlatformUnavailable, f"{what} {said[:600]} {_UNCOUNTED}") if said is not None else None


def attempt_of(status: ModelRolloutStatus) -> str:
    """Names the present step of the present attempt with the present candidate."""
    if status.candidate is None:
        return f"{status.stable}/promoted"
    begun = (status.step.index, status.step.started_at) if status.step else None
    return attempt(status.candidate, status.attempts or 0, begun)


def attempt(candidate: str | None, attempts: int, begun: tuple[int, str] | None) -> str:
    """Names a step of an attempt with a candidate.

    :param begun: the step's index and when it began; None while the candidate's servers start
    """
    step = f"{begun[0]}@{begun[1]}" if begun is not None else "starting"
    return f"{candidate}/{attempts}/{step}"


def lacking(attempt: str) -> str:
    """The state in which servers are missing in an attempt, and nobody else is known to be at fault."""
    return f"lacking/{attempt}"


def excused(attempt: str) -> str:
    """The state in which servers are missing in an attempt because something of the platform does not work."""
    return f"excused/{attempt}"


def states(
    server: Server | None, why: Trouble | None, obstacle: Trouble | None, attempt: str
) -> dict[str, tuple[str, bool]]:
    """What `Attention` is to measure for a candidate: each state with its form, and whether it holds.

    :param why: the excuse, if there is one
    """
    if server is None or server.deleting:
        return {}
    found = {lacking(attempt): (server.uid, is_missing(server) and why is None and obstacle is None)}
    if why is not None:
        found[excused(attempt)] = (f"{server.uid}/{why.reason}", True)
    return found


def told(why: Trouble | None, seconds: float) -> Trouble | None:
    """An excuse, once it is worth telling: each start is a moment without KServe's answer."""
    return why if why is not None and (why.reason != Reason.KServeSilent or seconds >= TOLD_AFTER) else None


def is_missing(server: Server) -> bool:
    """Whether a version has fewer servers than it was told to have."""
    return not server.ready or server.readiness.endpoints < server.wanted
