"""`slipway run logs`, also `kubectl slipway run logs`: what a training run printed, whichever engine it has."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from slipway.adapters.labels import STAGE
from slipway.api.meta import GROUP, VERSION
from slipway.api.trainingrun import TrainingRun
from slipway.cli.rollout_cluster import RolloutError, connected, sentences
from slipway.runtime.resources import label_value, owner_label

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Look at a training run.\n\nExample:\n\n  slipway run logs flight-delays-9f2c1a0b3d -f",
)

NODE_NAME = "workflows.argoproj.io/node-name"
_CONTAINERS = ("main", "job")
"""The container that works: in a pod of Kubeflow Pipelines, and of a Job."""
_LOOK = 2.0


@app.callback()
def root() -> None:
    """Look at a training run."""


class Cluster(Protocol):
    """What the command reads, with the caller's own permissions."""

    namespace: str

    def run(self, name: str) -> TrainingRun | None:
        """A run; None when there is none of that name."""
        ...

    def pods(self, namespace: str, selector: str) -> list[Any]:
        """Pods by labels."""
        ...

    def log(self, pod: Any, container: str, follow: bool) -> Iterator[bytes]:
        """What a container printed, in pieces; nothing when it is gone or has not begun."""
        ...


class KubeCluster:
    """One namespace of a cluster."""

    def __init__(self, kubeconfig: Path | None, context: str | None, namespace: str | None) -> None:
        api, self.namespace = connected(kubeconfig, context, namespace)
        self._core: Any = client.CoreV1Api(api)
        self._custom: Any = client.CustomObjectsApi(api)

    def run(self, name: str) -> TrainingRun | None:
        """A run; None when there is none of that name."""
        try:
            found = self._custom.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, TrainingRun.plural, name, _request_timeout=30
            )
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return TrainingRun.model_validate(found)

    def pods(self, namespace: str, selector: str) -> list[Any]:
        """Pods by labels."""
        return list(self._core.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=30).items)

    def log(self, pod: Any, container: str, follow: bool) -> Iterator[bytes]:
        """What a container printed, in pieces; nothing when it is gone or has not begun."""
        try:
            response = self._core.read_namespaced_pod_log(
                pod.metadata.name,
                pod.metadata.namespace,
                container=container,
                follow=follow,
                _preload_content=False,
            )
        except ApiException as error:
            if error.status in (400, 404):
                return
            raise
        try:
            yield from response.stream(2**14)
        finally:
            response.release_conn()


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="The TrainingRun.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    task: Annotated[str | None, typer.Option("--task", help="Only of this task or Job, such as train.")] = None,
    drivers: Annotated[
        bool, typer.Option("--drivers", help="Also of the pods by which Kubeflow Pipelines prepares tasks.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Its namespace. Defaults to the context's.")
    ] = None,
    context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option("--kubeconfig", help="Kubeconfig file. Defaults to kubectl's.")
    ] = None,
) -> None:
    """Print what the tasks of a run printed, in their order."""
    try:
        with sentences():
            show(KubeCluster(kubeconfig, context, namespace), name, follow, task, drivers, _write)
    except RolloutError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def show(
    cluster: Cluster,
    name: str,
    follow: bool,
    task: str | None,
    drivers: bool,
    write: Callable[[bytes], None],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write the logs of a run's pods, oldest first; with `follow` until it has ended.

    RolloutError when there is no such run, or nothing of it is left to print.
    """
    shown: set[str] = set()
    while True:
        run = cluster.run(name)
        if run is None:
            raise RolloutError(f"There is no TrainingRun {name} in namespace {cluster.namespace}.")
        ended = run.status.phase in ("Succeeded", "Failed")
        for pod in _in_order(_pods(cluster, run)):
            title, driver = title_of(pod)
            if pod.metadata.uid in shown or pod.status.phase == "Pending" or (driver and not drivers):
                continue
            if task is not None and task != title.removesuffix("-driver").lower():
                continue
            shown.add(pod.metadata.uid)
            write(f"==> {title} ({pod.metadata.namespace}/{pod.metadata.name}) <==\n".encode())
            for part in cluster.log(pod, _container(pod), follow):
                write(part)
        if ended or not follow:
            break
        sleep(_LOOK)
    if not shown:
        why = "its pods are gone, or none has begun" if task is None else f"no pod of task {task} is there"
        link = run.status.pipeline_run.url if run.status.pipeline_run is not None else None
        raise RolloutError(f"Nothing of TrainingRun {name} can be printed: {why}.{f' See {link}' if link else ''}")


def _pods(cluster: Cluster, run: TrainingRun) -> Iterable[Any]:
    """Pods of the newest attempt at a pipelines endpoint, or of a run's Jobs."""
    if run.status.pipeline_run is not None:
        there = run.status.pipeline_run
        return cluster.pods(there.namespace, f"pipeline/runid={there.id}")
    return cluster.pods(cluster.namespace, f"{owner_label('TrainingRun')}={label_value(run.metadata.name)}")


def title_of(pod: Any) -> tuple[str, bool]:
    """The task that a pod works for, and whether it only prepares it."""
    marks, notes = pod.metadata.labels or {}, pod.metadata.annotations or {}
    path = str(notes.get(NODE_NAME) or "").split(".")
    last = path[-1].partition("(")[0]
    if last.endswith("-driver"):
        return last, True
    if last == "executor" and len(path) > 1:
        return path[-2].partition("(")[0], False
    return str(marks.get(STAGE) or last or pod.metadata.name), False


def _container(pod: Any) -> str:
    names = [str(each.name) for each in pod.spec.containers]
    return next((each for each in _CONTAINERS if each in names), names[0])


def _in_order(pods: Iterable[Any]) -> list[Any]:
    return sorted(pods, key=lambda each: (str(each.metadata.creation_timestamp or ""), str(each.metadata.name)))


def _write(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
