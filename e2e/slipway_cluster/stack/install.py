"""Installing the stack, and leaving alone what is already as wanted."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from slipway_cluster import gobuild, keys
from slipway_cluster.certificates import Authority
from slipway_cluster.errors import ClusterError
from slipway_cluster.origin import Origin
from slipway_cluster.stack import gateway, kfp, kserve, storage
from slipway_cluster.stack.credentials import Credentials
from slipway_cluster.stack.names import names
from slipway_cluster.stack.objects import Object, config_map, namespace

PATIENCE = {Origin.LOCAL: 240, Origin.UPSTREAM: 900}
"""Seconds a part may take to run; nodes may have to fetch its images first."""

INSTALLED = "slipway-cluster"
"""The config map that remembers what was installed from which inputs."""


class Target(Protocol):
    """A cluster that things are installed in."""

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        """Run kubectl."""

    def helm(self, *arguments: str, timeout: float = 300) -> str:
        """Run helm."""


class Installer:
    """Installs each part of the stack once."""

    def __init__(self, cluster: Target, folder: Path, origin: Origin) -> None:
        self._cluster = cluster
        self._folder = folder
        self._names = names(origin)
        self._patience = PATIENCE[origin]

    def storage(self, credentials: Credentials, node: str) -> None:
        """SeaweedFS and PostgreSQL, with their secrets."""
        wanted = storage.objects(credentials, node, self._names)

        def install() -> None:
            self._apply(wanted)
            for name in ("seaweedfs", "postgresql"):
                self._wait_for_rollout(storage.NAMESPACE, name)
            self._make_bucket()

        self._once("storage", keys.key_of(wanted), install)

    def gateway(self) -> None:
        """The Gateway API's kinds, Envoy Gateway and the gateway itself."""
        values, wanted = gateway.values(self._names), gateway.objects(self._names)

        def install() -> None:
            with tempfile.TemporaryDirectory(prefix="slipway-chart-") as temporary:
                chart = gateway.chart(Path(temporary) / "chart", self._names)
                self._helm_install("envoy-gateway", chart, gateway.NAMESPACE, values)
            self._apply(wanted)
            self._wait("gateway", gateway.GATEWAY, storage.SYSTEM, "condition=Programmed")

        self._once("gateway", keys.key_of(values, wanted, gobuild.module_key("envoy-gateway")), install)

    def kserve(self) -> None:
        """KServe's kinds, its webhooks' certificate and its manager."""
        authority = Authority(self._folder / "kserve-pki", "kserve-webhook-ca")
        certificate, values = kserve.certificate_objects(authority), kserve.values(self._names)

        def install() -> None:
            self._apply(certificate)
            self._helm_install("kserve-crd", kserve.charts() / "kserve-crd", kserve.NAMESPACE, {})
            # The manager ends if a kind it watches is not served yet.
            self._wait_until_served("inferenceservices.serving.kserve.io")
            with tempfile.TemporaryDirectory(prefix="slipway-chart-") as temporary:
                chart = kserve.chart(Path(temporary) / "chart", authority)
                self._helm_install("kserve", chart, kserve.NAMESPACE, values)

        self._once("kserve", keys.key_of(certificate, values, gobuild.module_key("kserve")), install)

    def kfp(self, credentials: Credentials) -> None:
        """Kubeflow Pipelines, fetched by kubectl from upstream; its images by the nodes."""
        wanted = kfp.secrets(credentials)

        def install() -> None:
            self._apply_folder(kfp.FIRST)
            self._wait("crd", kfp.CRD, "", "condition=Established")
            self._apply_folder(kfp.MANIFESTS)
            self._apply(wanted)
            self._wait_for_all(kfp.NAMESPACE)

        self._once("kfp", keys.key_of(wanted, kfp.text()), install)

    def wait_until_available(self) -> None:
        """Wait for every deployment, also those that a restart of the machine ended."""
        for place in ("kube-system", storage.NAMESPACE, gateway.NAMESPACE, kserve.NAMESPACE):
            self._wait_for_all(place)
        if "kfp" in self._installed():
            self._wait_for_all(kfp.NAMESPACE)

    def _wait_for_all(self, place: str) -> None:
        bound = f"--timeout={self._patience}s"
        self._cluster.kubectl(
            *("wait", "deployment", "--all", "-n", place, "--for=condition=Available", bound),
            timeout=self._patience + 10,
        )

    def _apply_folder(self, folder: Path) -> None:
        self._cluster.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--field-manager=slipway-cluster", "-k", str(folder)),
            timeout=self._patience,
        )

    def _once(self, name: str, key: str, install: Callable[[], None]) -> None:
        if self._installed().get(name) == key:
            return
        install()
        patch = json.dumps({"data": {name: key}})
        self._cluster.kubectl("patch", "configmap", INSTALLED, "-n", storage.SYSTEM, "--type=merge", "--patch", patch)

    def prepare(self) -> None:
        """Make the place that remembers what is installed."""
        if not self._cluster.kubectl("get", "configmap", INSTALLED, "-n", storage.SYSTEM, "--ignore-not-found"):
            self._apply([namespace(storage.SYSTEM), config_map(storage.SYSTEM, INSTALLED, {})])

    def forget(self, name: str) -> None:
        """Let a part be installed again."""
        patch = json.dumps({"data": {name: None}})
        self._cluster.kubectl("patch", "configmap", INSTALLED, "-n", storage.SYSTEM, "--type=merge", "--patch", patch)

    def _installed(self) -> dict[str, str]:
        found = self._cluster.kubectl("get", "configmap", INSTALLED, "-n", storage.SYSTEM, "--output=json")
        return dict(json.loads(found).get("data") or {})

    def _apply(self, objects: Sequence[Object]) -> None:
        self._cluster.kubectl(
            *("apply", "--server-side", "--force-conflicts", "--field-manager=slipway-cluster", "-f", "-"),
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}),
        )

    def _helm_install(self, release: str, chart: Path, namespace: str, values: dict[str, Any]) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(values, file)
            file.flush()
            self._cluster.helm(
                *("upgrade", "--install", release, str(chart), "--namespace", namespace, "--create-namespace"),
                *("--values", file.name, "--wait", f"--timeout={self._patience}s"),
                timeout=self._patience + 30,
            )

    def _wait_for_rollout(self, namespace: str, name: str) -> None:
        self._cluster.kubectl(
            *("rollout", "status", f"deployment/{name}", "-n", namespace, f"--timeout={self._patience}s"),
            timeout=self._patience + 10,
        )

    def _wait(self, kind: str, name: str, namespace: str, condition: str) -> None:
        where = ("-n", namespace) if namespace else ()
        self._cluster.kubectl(
            *("wait", f"{kind}/{name}", *where, f"--for={condition}", f"--timeout={self._patience}s"),
            timeout=self._patience + 10,
        )

    def _wait_until_served(self, kind: str) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._cluster.kubectl("get", kind, "--all-namespaces")
                return
            except ClusterError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def _make_bucket(self) -> None:
        if not re.search(rf"^\s*{storage.BUCKET}\s", self._weed("s3.bucket.list"), flags=re.MULTILINE):
            self._weed(f"s3.bucket.create -name {storage.BUCKET}")

    def _weed(self, command: str) -> str:
        return self._cluster.kubectl(
            *("exec", "--stdin", "-n", storage.NAMESPACE, "deploy/seaweedfs", "--container=seaweedfs", "--"),
            *("weed", "shell", "-master=127.0.0.1:9333"),
            input=f"{command}\n",
        )
