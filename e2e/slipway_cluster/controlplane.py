"""A real Kubernetes API without nodes, for tests: etcd and kube-apiserver as plain processes.

Custom resources, validation rules, admission policies, RBAC, server-side apply and watches behave exactly as in a
cluster, because they are the same program. Nothing runs pods. ::

    with ControlPlane() as control_plane:
        admin = control_plane.kubeconfig()
        dana = control_plane.kubeconfig(user="dana", groups=["team-a"])

``python -m slipway_cluster.controlplane`` starts one by hand, prints the path of its kubeconfig and waits for Ctrl-C.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from slipway_cluster import certificates, gobuild, kubeconfig
from slipway_cluster.certificates import Authority, Certificate
from slipway_cluster.errors import ClusterError
from slipway_cluster.process import tail

START_SECONDS = 60.0
"""How long a start may take on a busy machine; 4 s is usual."""

ATTEMPTS = 3
"""Another process may take a port between our choice and our use of it: then start again with others."""

CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
)

# Reads until the process that holds the other end of the pipe is gone, however it ended, then removes what is left.
_REAPER = 'cat >/dev/null; kill -9 $1 2>/dev/null; rm -rf "$2"'


class ControlPlane:
    """An API server of its own with an empty etcd, on loopback only.

    Args:
        garbage_collector: also run the controllers that delete dependents, empty deleted namespaces, make each
            namespace's ``default`` service account and fill aggregated roles such as ``view``, which does nothing
            without them. Builds the node binary if it is missing: ask ``gobuild.is_built("node")`` first.
        server_arguments: further flags of kube-apiserver.
    """

    def __init__(self, *, garbage_collector: bool = False, server_arguments: Sequence[str] = ()) -> None:
        self._with_garbage_collector = garbage_collector
        self._server_arguments = tuple(server_arguments)
        self._folder: Path | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._reaper: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where the API server answers."""
        return f"https://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start everything and wait until the API server is ready.

        Raises:
            ClusterError: a program is missing or ended; the message ends with its log.
        """
        binaries = {name: gobuild.binary(name) for name in self._programs()}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._start_once(binaries)
                return
            except ClusterError as error:
                self.stop()
                if attempt == ATTEMPTS or "address already in use" not in str(error):
                    raise
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End every process and remove every file; safe to call twice."""
        # The data goes away with the folder, so nobody needs to end gracefully.
        for process in reversed(self._processes.values()):
            process.kill()
        for process in self._processes.values():
            process.wait()
        self._processes.clear()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._reaper:
            self._close_reaper(self._reaper)
            self._reaper = None

    def kubeconfig(self, user: str = "admin", groups: Sequence[str] | None = None) -> Path:
        """Path of a kubeconfig that acts as a user.

        ``admin`` is in ``system:masters`` unless told otherwise; everyone else starts without any right.
        """
        folder = self._running_folder()
        if groups is None:
            groups = ["system:masters"] if user == "admin" else []
        name = re.sub(r"[^A-Za-z0-9.-]", "-", "+".join([user, *groups]))
        file = folder / f"{name}.kubeconfig"
        if not file.exists():
            client = self._authority().issue(f"client-{name}", user, organizations=groups)
            kubeconfig.write(file, server=self.url, authority=folder / "pki" / "ca.crt", user=user, client=client)
        return file

    def _programs(self) -> list[str]:
        controllers = ["kube-controller-manager"] if self._with_garbage_collector else []
        return ["etcd", "kube-apiserver", *controllers]

    def _start_once(self, binaries: dict[str, Path]) -> None:
        folder = self._folder = Path(tempfile.mkdtemp(prefix="slipway-control-plane-"))
        client_port, peer_port, self._port = _free_ports(3)
        self._spawn("etcd", binaries["etcd"], *_etcd_arguments(folder, client_port, peer_port))
        authority = self._authority()
        serving = authority.issue("apiserver", "kube-apiserver", names=["DNS:localhost", "IP:127.0.0.1"])
        certificates.new_key(folder / "pki" / "accounts.key")
        certificates.public_key(folder / "pki" / "accounts.key", folder / "pki" / "accounts.pub")
        self._spawn(
            "kube-apiserver",
            binaries["kube-apiserver"],
            *_server_arguments(folder / "pki", serving, client_port, self._port),
            *self._server_arguments,
        )
        admin = authority.issue("probe", "probe", organizations=["system:masters"])
        self._watch_over()
        self._wait_until_ready(admin)
        if self._with_garbage_collector:
            self._start_controllers(binaries["kube-controller-manager"])

    def _start_controllers(self, binary: Path) -> None:
        config = self.kubeconfig("system:kube-controller-manager")
        (port,) = _free_ports(1)
        self._spawn(
            "kube-controller-manager",
            binary,
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--controllers={','.join(CONTROLLERS)}",
            f"--service-account-private-key-file={self._running_folder() / 'pki' / 'accounts.key'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
        )
        self._watch_over()

    def _spawn(self, name: str, *command: str | Path) -> None:
        folder = self._running_folder()
        with (folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # Memory is given back once, at the end: less collecting costs less of the processor.
                env={**os.environ, "GOGC": "400"},
                # A Ctrl-C in the terminal is ours to handle, in order.
                start_new_session=True,
            )

    def _watch_over(self) -> None:
        """Let a shell outlive us, so that nothing stays behind even if this process is killed."""
        predecessor = self._reaper
        pids = " ".join(str(process.pid) for process in self._processes.values())
        self._reaper = subprocess.Popen(
            ["/bin/sh", "-c", _REAPER, "reaper", pids, str(self._running_folder())],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        if predecessor:
            self._close_reaper(predecessor)

    @staticmethod
    def _close_reaper(reaper: subprocess.Popen[bytes]) -> None:
        # Killed and not just let go: by now the process ids may belong to others.
        reaper.kill()
        reaper.wait()
        if reaper.stdin:
            reaper.stdin.close()

    def _wait_until_ready(self, client: Certificate) -> None:
        folder = self._running_folder()
        context = ssl.create_default_context(cafile=str(folder / "pki" / "ca.crt"))
        context.load_cert_chain(client.certificate, client.key)
        deadline = time.monotonic() + START_SECONDS
        while not _is_ready(f"{self.url}/readyz", context):
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise ClusterError(f"{name} ended at its start:\n{self._logs()}")
            if time.monotonic() > deadline:
                raise ClusterError(f"The API server was not ready after {START_SECONDS:.0f} s:\n{self._logs()}")
            time.sleep(0.05)

    def _logs(self) -> str:
        return "\n".join(
            f"{log.name}:\n{tail(log.read_bytes())}" for log in sorted(self._running_folder().glob("*.log"))
        )

    def _authority(self) -> Authority:
        return Authority(self._running_folder() / "pki", "slipway-test-ca")

    def _running_folder(self) -> Path:
        if self._folder is None:
            raise ClusterError("The control plane is not running: call start() first.")
        return self._folder


def _etcd_arguments(folder: Path, client_port: int, peer_port: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _server_arguments(pki: Path, serving: Certificate, etcd_port: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--service-account-key-file={pki / 'accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        # Loopback is no valid address of the service "kubernetes", which nobody uses here.
        "--endpoint-reconciler-type=none",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
    ]


def _is_ready(url: str, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(url, context=context, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def main() -> None:
    """Run a control plane until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m slipway_cluster.controlplane", description=main.__doc__)
    parser.add_argument("--garbage-collector", action="store_true", help="also run the controllers that clean up")
    options = parser.parse_args()
    # A shell that starts this in the background has SIGINT ignored: whoever sends it still means it.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _interrupt)
    try:
        with ControlPlane(garbage_collector=options.garbage_collector) as control_plane:
            print(control_plane.kubeconfig(), flush=True)
            signal.pause()
    except ClusterError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        pass


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
