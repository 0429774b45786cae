"""Everything that can be set from outside: one dataclass, filled from flags and `SLIPWAY_…` environment variables."""

from __future__ import annotations

import argparse
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from slipway.runtime.errors import UserError


def _setting(default: Any, text: str, choices: Sequence[str] = ()) -> Any:
    return field(default=default, metadata={"help": text, "choices": tuple(choices)})


@dataclass(frozen=True)
class Settings:
    """Settings of one operator process. A field `lease_name` is the flag `--lease-name` and `SLIPWAY_LEASE_NAME`."""

    namespace: str = _setting("slipway-system", "Namespace of the operator: its Lease, and the Jobs' defaults.")
    lease_name: str = _setting("slipway-operator", "Name of the Lease that elects the active replica.")
    lease_seconds: float = _setting(15.0, "A standby takes over when the Lease was not renewed for so long.")
    lease_renew_seconds: float = _setting(10.0, "The leader writes nothing when its last renewal is older than this.")
    lease_retry_seconds: float = _setting(2.0, "Pause between renewals, and between tries to become leader.")
    identity: str = _setting("", "Name in the Lease; by default the host name and a random suffix.")
    port: int = _setting(8080, "Port of /healthz, /readyz and, unless it has its own, /metrics; 0 takes a free one.")
    metrics_port: int = _setting(-1, "A port of its own for /metrics; -1 serves it with the health checks.")
    bind: str = _setting("0.0.0.0", "Address to listen on.")
    workers: int = _setting(8, "How many objects are reconciled at the same time.")
    resync_seconds: float = _setting(600.0, "Every object is looked at again after so long, even without an event.")
    drain_seconds: float = _setting(5.0, "On SIGTERM, reconciles in flight may take so long to end.")
    log_format: str = _setting("logfmt", "Form of the log lines.", ("logfmt", "json"))
    log_level: str = _setting("INFO", "Least level to log.", ("DEBUG", "INFO", "WARNING", "ERROR"))
    kubeconfig: str = _setting("", "Kubeconfig to use outside of a cluster.")
    context: str = _setting("", "Context in the kubeconfig. Never guessed: without it the file's current one is used.")
    runner_image: str = _setting("slipway-runner:latest", "Image of the Jobs.")
    server_image: str = _setting("slipway-server:latest", "Image of the model servers.")
    image_pull_policy: str = _setting("IfNotPresent", "Of Jobs and servers.", ("Always", "IfNotPresent", "Never"))

    def own_identity(self) -> str:
        """The holder's name in the Lease, unique for each process."""
        return self.identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Flags win over environment variables, which win over defaults.

    :raises UserError: a value of the environment, or a combination, that cannot be
    """
    parser = argparse.ArgumentParser(prog="slipway-operator", description="Runs Slipway's controllers.")
    for each in fields(Settings):
        variable = f"SLIPWAY_{each.name.upper()}"
        kind = type(each.default)
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=kind,
            choices=each.metadata["choices"] or None,
            default=_from_environment(variable, environment, kind, each.metadata["choices"], each.default),
            help=f"{each.metadata['help']} ({variable}; default: {each.default if each.default != '' else 'none'})",
        )
    settings = Settings(**vars(parser.parse_args(arguments)))
    _check(settings)
    return settings


def _from_environment(
    variable: str, environment: Mapping[str, str], kind: type[Any], choices: Sequence[str], default: Any
) -> Any:
    if variable not in environment:
        return default
    text = environment[variable]
    try:
        value = kind(text)
    except ValueError as error:
        raise UserError("BadSetting", f"{variable}={text!r} is no {kind.__name__}.") from error
    if choices and value not in choices:
        raise UserError("BadSetting", f"{variable}={text!r} is none of {', '.join(choices)}.")
    return value


def _check(settings: Settings) -> None:
    if not settings.lease_retry_seconds < settings.lease_renew_seconds < settings.lease_seconds:
        raise UserError(
            "BadSetting",
            f"--lease-retry-seconds {settings.lease_retry_seconds:g} < --lease-renew-seconds "
            f"{settings.lease_renew_seconds:g} < --lease-seconds {settings.lease_seconds:g} must hold.",
        )
    if settings.workers < 1:
        raise UserError("BadSetting", f"--workers {settings.workers} must be at least 1.")
