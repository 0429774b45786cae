"""What the rollout commands read and write, with the caller's own permissions."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

from slipway.adapters.kserve import POD_LABEL
from slipway.api.meta import GROUP, VERSION
from slipway.api.modelrollout import ModelRollout
from slipway.api.rollout_control import OrderStatus
from slipway.contracts.orders import ANNOTATION, Order, parse

RECENT = timedelta(minutes=15)
"""Events that are older are not shown."""
_BETWEEN_WRITES = (0.0, 0.05)
"""Seconds, at random, before an order is written anew when somebody wrote in between, as the operator often does."""


class RolloutError(Exception):
    """A command cannot be done; the message says why and what to do."""


@dataclass(frozen=True)
class Server:
    """A pod of a version."""

    name: str
    ready: bool
    restarts: int
    trouble: str = ""


@dataclass(frozen=True)
class Happening:
    """An Event."""

    at: datetime
    kind: str
    reason: str
    message: str


@dataclass(frozen=True)
class View:
    """A rollout and what is around it.

    :param servers: pods by InferenceService; empty where pods may not be read
    :param events: of the last minutes, newest last
    """

    rollout: ModelRollout
    servers: dict[str, list[Server]] = field(default_factory=dict)
    events: list[Happening] = field(default_factory=list)


def connected(kubeconfig: Path | None, context: str | None, namespace: str | None) -> tuple[Any, str]:
    """A client of the cluster that the caller means, and the namespace. RolloutError when there is none."""
    file = str(kubeconfig) if kubeconfig else None
    try:
        api = config.new_client_from_config(config_file=file, context=context)
        contexts, active = config.list_kube_config_contexts(config_file=file)
    except ConfigException as error:
        raise RolloutError(f"No cluster to ask: {error}. Set --kubeconfig or KUBECONFIG.") from None
    chosen = next((each for each in contexts if each["name"] == context), active)
    return api, namespace or chosen["context"].get("namespace") or "default"


@contextmanager
def sentences() -> Iterator[None]:
    """Every answer of the cluster that is none becomes a sentence."""
    try:
        yield
    except ApiException as error:
        detail = {401: "Log in, or renew your credentials.", 403: f"You may not do that: {_said(error)}"}
        raise RolloutError(f"The cluster refused: {detail.get(error.status, _said(error))}") from None
    except HTTPError as error:
        raise RolloutError(f"The cluster does not answer: {error}") from None


def _said(error: ApiException) -> str:
    """What the API server wrote, without the envelope."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"


class RolloutCluster:
    """One namespace of a cluster.

    :param namespace: None for the one of the kubeconfig's context
    """

    def __init__(self, kubeconfig: Path | None, context: str | None, namespace: str | None) -> None:
        self._api, self.namespace = connected(kubeconfig, context, namespace)
        self._core: Any = client.CoreV1Api(self._api)
        self._custom: Any = client.CustomObjectsApi(self._api)

    # ---- reads -------------------------------------------------------------------------------------------------------
    def rollout(self, name: str) -> ModelRollout:
        """A rollout. RolloutError when there is none of that name."""
        try:
            found = self._custom.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, ModelRollout.plural, name, _request_timeout=30
            )
        except ApiException as error:
            if error.status != 404:
                raise
            raise RolloutError(self._missing(name)) from None
        return ModelRollout.model_validate(found)

    def _missing(self, name: str) -> str:
        try:
            found = self._custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, ModelRollout.plural)
        except ApiException:
            return f"The cluster does not know ModelRollout {name} in namespace {self.namespace}."
        names = ", ".join(each["metadata"]["name"] for each in found["items"]) or "none; another one: -n NAMESPACE"
        return f"There is no ModelRollout {name} in namespace {self.namespace}. There is: {names}."

    def view(self, name: str, now: datetime) -> View:
        """A rollout with its servers and Events; both are left out where the caller may not read them."""
        rollout = self.rollout(name)
        services = [each.service for each in rollout.status.versions or ()]
        return View(rollout, self._servers(services), self._events(name, now))

    def _servers(self, services: list[str]) -> dict[str, list[Server]]:
        if not services:
            return {}
        try:
            pods = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{POD_LABEL} in ({','.join(services)})", _request_timeout=30
            ).items
        except ApiException as error:
            if error.status == 403:
                return {}
            raise
        found: dict[str, list[Server]] = {}
        for pod in sorted(pods, key=lambda each: str(each.metadata.name)):
            found.setdefault(pod.metadata.labels[POD_LABEL], []).append(_server(pod))
        return found

    def _events(self, name: str, now: datetime) -> list[Happening]:
        selector = f"involvedObject.kind=ModelRollout,involvedObject.name={name}"
        try:
            events = self._core.list_namespaced_event(
                self.namespace, field_selector=selector, _request_timeout=30
            ).items
        except ApiException as error:
            if error.status == 403:
                return []
            raise
        told = [_happening(each) for each in events]
        return sorted((each for each in told if now - each.at <= RECENT), key=lambda each: each.at)

    def user(self) -> str:
        """Who the API server takes the caller for. RolloutError where it cannot tell."""
        body = client.V1SelfSubjectReview()
        try:
            review: Any = client.AuthenticationV1Api(self._api).create_self_subject_review(body, _request_timeout=30)
        except ApiException as error:
            raise RolloutError(f"The cluster does not say who you are (SelfSubjectReview): {_said(error)}") from None
        return str(review.status.user_info.username)

    # ---- orders ------------------------------------------------------------------------------------------------------
    def give(self, name: str, order: Callable[[ModelRollout], Order], patience: float) -> Order:
        """Write an order onto a rollout, unless one of somebody stands there that was not heard yet.

        :param order: made from the rollout as it is now
        :param patience: seconds to wait for the operator to hear an earlier order, and for a moment without a change
        """
        deadline = time.monotonic() + patience
        while True:
            rollout = self._heard_all(name, deadline)
            made = order(rollout)
            if self._write(rollout, str(made)):
                return made
            if time.monotonic() > deadline:
                raise RolloutError(f"ModelRollout {name} changes too fast to give an order: try again.")
            time.sleep(random.uniform(*_BETWEEN_WRITES))

    def _heard_all(self, name: str, deadline: float) -> ModelRollout:
        while True:
            rollout = self.rollout(name)
            value = rollout.metadata.annotations.get(ANNOTATION)
            handled = rollout.status.handled.order if rollout.status.handled else None
            if value is None or value == handled:
                return rollout
            if time.monotonic() > deadline:
                raise RolloutError(
                    f"An order was not heard yet, and would be lost: {value}. Does the operator run? To give another"
                    f" one all the same: kubectl annotate modelrollout {name} -n {self.namespace} {ANNOTATION}-"
                )
            time.sleep(0.3)

    def _write(self, rollout: ModelRollout, text: str) -> bool:
        """Whether nobody wrote in between."""
        meta = {"annotations": {ANNOTATION: text}, "resourceVersion": rollout.metadata.resource_version}
        try:
            self._custom.patch_namespaced_custom_object(
                GROUP, VERSION, self.namespace, ModelRollout.plural, rollout.metadata.name, {"metadata": meta}
            )
        except ApiException as error:
            if error.status == 409:
                return False
            raise
        return True

    def answer(self, name: str, order: Order, patience: float) -> OrderStatus | None:
        """What the operator did with an order; None when it said nothing in time. RolloutError when it was replaced."""
        deadline = time.monotonic() + patience
        while True:
            rollout = self.rollout(name)
            found = [each for each in rollout.status.orders or () if each.token == order.token]
            if found:
                return found[0]
            value = rollout.metadata.annotations.get(ANNOTATION)
            if value != str(order):
                raise RolloutError(f"Your order was replaced before it was heard, by: {_who(value)}.")
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)


def _who(value: str | None) -> str:
    try:
        return f"{parse(value).verb}, {parse(value).by}" if value else "nothing, somebody took it away"
    except ValueError:
        return str(value)


def _server(pod: Any) -> Server:
    statuses = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    waiting = [each.state.waiting.reason for each in statuses if each.state and each.state.waiting]
    conditions = {each.type: each.status for each in pod.status.conditions or ()}
    unschedulable = [
        each.reason for each in pod.status.conditions or () if each.type == "PodScheduled" and each.status == "False"
    ]
    trouble = next(iter([*unschedulable, *(each for each in waiting if each != "PodInitializing")]), "")
    restarts = sum(each.restart_count or 0 for each in statuses)
    leaving = "Terminating" if pod.metadata.deletion_timestamp else ""
    return Server(pod.metadata.name, conditions.get("Ready") == "True", restarts, leaving or trouble or "")


def _happening(event: Any) -> Happening:
    series = event.series.last_observed_time if event.series else None
    at = series or event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return Happening(at or datetime.now(UTC), event.type or "", event.reason or "", event.message or "")
