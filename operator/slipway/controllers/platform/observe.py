"""Asks each part of a Platform whether it answers."""

from __future__ import annotations

from dataclasses import dataclass

from slipway.adapters.artifacts import Artifacts, Location
from slipway.adapters.engines.base import Engines
from slipway.adapters.network import Network
from slipway.api.platform import Platform, PlatformSpec
from slipway.controllers.shared.typed import Subject, raw_condition, subject
from slipway.runtime.controller import Io
from slipway.runtime.errors import Unavailable
from slipway.runtime.resources import GATEWAY, Key

FEAST_KEYS = ("host", "port", "database", "username", "password")
STORE_KEYS = ("accessKey", "secretKey")


@dataclass(frozen=True)
class Answer:
    """What one part answered.

    :param name: artifacts, features, gateway or pipelines
    """

    name: str
    ready: bool
    message: str


@dataclass(frozen=True)
class PlatformSnapshot:
    """One Platform and what its parts answered.

    :param bucket_missing: the store answers and has no such bucket
    """

    subject: Subject[Platform]
    answers: tuple[Answer, ...] = ()
    bucket_missing: bool = False


async def observe(
    io: Io, artifacts: Artifacts, network: Network, engines: Engines, key: Key
) -> PlatformSnapshot | None:
    """Ask each part, one after another; each has a short timeout."""
    found = subject(io, key, Platform)
    if found is None or found.deleting:
        return None
    spec = found.typed.spec
    store, bucket_missing = await _artifacts(artifacts, found.typed)
    answers = (
        store,
        await _features(artifacts, network, spec),
        await _gateway(io, spec),
        await _pipelines(io, artifacts, engines, found.typed),
    )
    return PlatformSnapshot(found, answers, bucket_missing)


async def _artifacts(artifacts: Artifacts, platform: Platform) -> tuple[Answer, bool]:
    location = Location.of(platform)
    s3 = platform.spec.artifacts.s3
    others = {"userCodeSecretRef": s3.user_code_secret_ref, "predictionLogSecretRef": s3.prediction_log_secret_ref}
    for field, reference in others.items():
        if reference is not None:
            problem = await _secret(artifacts, reference.namespace, reference.name, STORE_KEYS)
            if problem:
                return Answer("artifacts", False, f"spec.artifacts.s3.{field}: {problem}"), False
    try:
        bucket = await artifacts.bucket(location)
    except Unavailable as error:
        return Answer("artifacts", False, f"spec.artifacts.s3: {error.message}"), False
    if bucket == "Missing":
        message = f"spec.artifacts.s3.bucket: {location.endpoint} has no bucket {location.bucket}; Slipway makes it."
        return Answer("artifacts", False, message), True
    return Answer("artifacts", True, f"Bucket {location.bucket} at {location.endpoint} answers."), False


async def _features(artifacts: Artifacts, network: Network, spec: PlatformSpec) -> Answer:
    reference = spec.features.postgres.secret_ref
    problem = await _secret(artifacts, reference.namespace, reference.name, FEAST_KEYS)
    if problem:
        return Answer("features", False, f"spec.features.postgres.secretRef: {problem}")
    secret = await artifacts.secrets.read(reference.namespace, reference.name)
    assert secret is not None
    host, port = secret.values["host"], secret.values["port"]
    where = f"Secret {reference.namespace}/{reference.name}"
    if not port.isdigit() or not 0 < int(port) < 65536:
        return Answer("features", False, f"{where} has port {port!r}: write a number such as 5432.")
    refused = await network.refuses(host, int(port))
    if refused:
        message = f"PostgreSQL at {host}:{port} does not answer ({refused}): correct host and port in {where}."
        return Answer("features", False, message)
    return Answer("features", True, f"PostgreSQL at {host}:{port} answers.")


async def _secret(artifacts: Artifacts, namespace: str, name: str, keys: tuple[str, ...]) -> str:
    """What is wrong with a Secret; empty when nothing is."""
    secret = await artifacts.secrets.read(namespace, name)
    if secret is None:
        return f"Secret {namespace}/{name} does not exist: create it with {', '.join(keys)}."
    missing = secret.missing(*keys)
    return f"Secret {namespace}/{name} has no {', '.join(missing)}: add it." if missing else ""


async def _gateway(io: Io, spec: PlatformSpec) -> Answer:
    reference = spec.gateway.parent_ref
    name = f"Gateway {reference.namespace}/{reference.name}"
    gateway = await io.live(GATEWAY.key(reference.name, reference.namespace))
    if gateway is None:
        return Answer(
            "gateway", False, f"spec.gateway.parentRef: {name} does not exist: create it, or correct the name."
        )
    listeners = [each["name"] for each in gateway["spec"].get("listeners") or ()]
    if reference.section_name is not None and reference.section_name not in listeners:
        message = (
            f"spec.gateway.parentRef.sectionName: {name} has no listener {reference.section_name}, only "
            f"{', '.join(listeners)}."
        )
        return Answer("gateway", False, message)
    programmed = raw_condition(gateway, "Programmed")
    if programmed is None or programmed.get("status") != "True":
        why = (programmed or {}).get("message") or "its controller has not said so yet"
        return Answer("gateway", False, f"{name} is not programmed: {why}")
    return Answer("gateway", True, f"{name} is programmed.")


async def _pipelines(io: Io, artifacts: Artifacts, engines: Engines, platform: Platform) -> Answer:
    name = platform.spec.pipelines.engine
    problem = await engines[name].answers(io, artifacts, platform)
    if problem:
        return Answer("pipelines", False, problem)
    if platform.spec.pipelines.kubeflow_pipelines is None:
        return Answer("pipelines", True, "Runs are Jobs of this cluster.")
    return Answer("pipelines", True, f"{platform.spec.pipelines.kubeflow_pipelines.endpoint} answers.")
