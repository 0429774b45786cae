"""`slipway why REQUEST_ID`: from one prediction back to version, data and code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from rich.console import Console
from rich.tree import Tree
from urllib3.exceptions import HTTPError

from slipway.api.datasetversion import DatasetVersion
from slipway.api.meta import GROUP, VERSION, Resource
from slipway.api.modelversion import ModelVersion
from slipway.api.trainingrun import TrainingRun

SERVER_PORT = 8080
"""Port of the model server in its pod, where `/slipway/requests/ID` answers."""


class WhyError(Exception):
    """Nothing can be told; the message says why and what to do."""


@dataclass(frozen=True)
class Answer:
    """What is known of one prediction."""

    namespace: str
    pod: str
    request: dict[str, Any]
    version: ModelVersion | None
    dataset_version: DatasetVersion | None
    run: TrainingRun | None


class Cluster:
    """The few reads that the answer takes, with the caller's own permissions."""

    def __init__(self, kubeconfig: Path | None, context: str | None) -> None:
        try:
            api = config.new_client_from_config(config_file=str(kubeconfig) if kubeconfig else None, context=context)
        except ConfigException as error:
            raise WhyError(f"No cluster to ask: {error}. Set --kubeconfig or KUBECONFIG.") from None
        self._core: Any = client.CoreV1Api(api)
        self._custom: Any = client.CustomObjectsApi(api)

    def servers(self, namespace: str | None) -> Iterator[tuple[str, str]]:
        """Namespace and name of each running model-server pod."""
        labels = "app.kubernetes.io/managed-by=slipway,slipway.dev/model"
        if namespace:
            pods = self._core.list_namespaced_pod(namespace, label_selector=labels)
        else:
            pods = self._core.list_pod_for_all_namespaces(label_selector=labels)
        for pod in pods.items:
            if pod.status.phase == "Running":
                yield pod.metadata.namespace, pod.metadata.name

    def request(self, namespace: str, pod: str, request_id: str) -> dict[str, Any] | None:
        """What a server remembers of a request; None when it does not know it or does not answer."""
        try:
            response = self._core.connect_get_namespaced_pod_proxy_with_path(
                f"{pod}:{SERVER_PORT}", namespace, f"slipway/requests/{request_id}", _preload_content=False
            )
        except ApiException as error:
            if error.status in (404, 502, 503):
                return None
            raise
        found: dict[str, Any] = json.loads(response.data)
        return found

    def read(self, kind: type[Resource], namespace: str, name: str) -> Any:
        """A typed object, or None when it is gone."""
        try:
            found = self._custom.get_namespaced_custom_object(GROUP, VERSION, namespace, kind.plural, name)
        except ApiException as error:
            if error.status == 404:
                return None
            raise
        return kind.model_validate(found)


def explain(cluster: Cluster, request_id: str, namespace: str | None) -> Answer:
    """Finds the server that answered the request, and everything behind its version. WhyError when none did."""
    asked = 0
    for found_in, pod in cluster.servers(namespace):
        asked += 1
        record = cluster.request(found_in, pod, request_id)
        if record is None:
            continue
        version = cluster.read(ModelVersion, found_in, record["version"])
        return Answer(
            namespace=found_in,
            pod=pod,
            request=record,
            version=version,
            dataset_version=version and cluster.read(DatasetVersion, found_in, version.spec.dataset_version_ref.name),
            run=version and cluster.read(TrainingRun, found_in, version.spec.run.name),
        )
    where = f"in namespace {namespace}" if namespace else "in any namespace"
    raise WhyError(
        f"None of {asked} model servers {where} remembers request {request_id}. Servers keep the last ten thousand"
        " requests while they run: take the x-request-id header of a recent answer."
    )


def tree(answer: Answer) -> Tree:
    """The answer as a tree: prediction → version → data → code."""
    record = answer.request
    top = Tree(f"[bold]request {record['id']}[/bold]  {record['at']}  status {record['status']}")
    served = top.add(
        f"answered by {record['version']} in {record['milliseconds']} ms, {record['instances']} instances,"
        f" pod {answer.namespace}/{answer.pod}"
    )
    for name, sources in sorted(record.get("features", {}).items()):
        served.add(f"feature {name}: " + ", ".join(f"{count} from {source}" for source, count in sources.items()))
    if decided := record.get("sources"):
        served.add("decided: " + ", ".join(f"{count} by {source}" for source, count in sorted(decided.items())))
    if answer.version is None:
        top.add(f"ModelVersion {record['version']} is gone: its record was deleted")
        return top
    spec = answer.version.spec
    version = top.add(f"[bold]ModelVersion {answer.version.metadata.name}[/bold]  score {spec.score}")
    version.add(f"model {spec.digests.model} at {spec.artifact}")
    for verdict in spec.verdicts:
        version.add(f"{verdict.verdict} {verdict.name}: {verdict.message}")
    _data(top, answer)
    code = top.add(f"[bold]code[/bold]  {spec.digests.code}")
    code.add(f"image {spec.digests.image}")
    code.add(f"pipeline {spec.digests.pipeline}")
    if answer.run is not None:
        run = answer.run
        code.add(f"entrypoint {run.spec.code.image.entrypoint or 'none'}, seed {run.spec.seed}")
        if run.status.own_pipeline_digest:
            code.add(f"own pipeline {run.status.own_pipeline_digest}")
        code.add(f"parameters {json.dumps(run.spec.parameters, sort_keys=True)}")
        code.add(
            f"TrainingRun {run.metadata.name}, trigger {run.spec.trigger}, {run.status.completion_time or 'running'}"
        )
    return top


def _data(top: Tree, answer: Answer) -> None:
    assert answer.version is not None
    spec = answer.version.spec
    data = top.add(f"[bold]DatasetVersion {spec.dataset_version_ref.name}[/bold]")
    if answer.dataset_version is None:
        data.add("its record was deleted")
    else:
        record = answer.dataset_version.spec
        data.add(f"{record.rows} rows of {record.partitions} source objects, known until {record.known_until}")
        data.add(f"digest {record.digest}")
        for split in record.splits:
            data.add(f"{split.name}: {split.rows} rows, {split.start} to {split.end}")
    data.add(f"training set {spec.digests.training_set}")
    data.add(f"features {spec.digests.feature_pipeline}")


def why(
    request_id: Annotated[str, typer.Argument(help="The x-request-id header of an answer.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Look only here.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig file. Defaults to kubectl's.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig.")] = None,
) -> None:
    """Tell what a prediction was made from: prediction → version → data → code."""
    try:
        answer = explain(Cluster(kubeconfig, context), request_id, namespace)
    except WhyError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except ApiException as error:
        typer.echo(
            f"The cluster refused: {error.status} {error.reason}. Reading pods/proxy and modelversions is needed.",
            err=True,
        )
        raise typer.Exit(1) from None
    except HTTPError as error:
        typer.echo(f"The cluster does not answer: {error}", err=True)
        raise typer.Exit(1) from None
    console = Console(highlight=False)
    # In a pipe every line is whole, so that a digest can be searched for.
    (console if console.is_terminal else Console(highlight=False, width=2000)).print(tree(answer))
