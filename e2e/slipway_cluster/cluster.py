"""The local cluster as one object."""

import json
import shutil
import socket
import time
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path

from slipway_cluster import doctor, engine, gobuild, keys, kind, origin, paths, programs
from slipway_cluster.engine import Engine
from slipway_cluster.errors import ClusterError
from slipway_cluster.images import layers, recipes
from slipway_cluster.images import node as node_images
from slipway_cluster.images.archive import Image
from slipway_cluster.images.delivery import Delivery
from slipway_cluster.origin import Origin, Wish
from slipway_cluster.process import run
from slipway_cluster.stack import credentials as stack_credentials
from slipway_cluster.stack import gateway, storage
from slipway_cluster.stack.credentials import Credentials, S3Credentials
from slipway_cluster.stack.install import Installer
from slipway_cluster.steps import Reporter, SilentReporter, Steps, Work
from slipway_cluster.versions import versions

NAME = "slipway"
GATEWAY_PORT = 28080
S3_PORT = 28333
CLUSTER_PROGRAMS = tuple(gobuild.programs())


class Cluster:
    """One local cluster; any number of these objects may speak of the same one.

    Args:
        name: several clusters may exist side by side under different names.
        reporter: shows the progress of slow work.
    """

    def __init__(self, name: str = NAME, reporter: Reporter | None = None) -> None:
        self.name = name
        self._steps = Steps(reporter or SilentReporter())

    @property
    def folder(self) -> Path:
        """Everything on disk that belongs to this cluster alone."""
        return paths.cache_folder("clusters", self.name)

    @property
    def kubeconfig(self) -> Path:
        """Its administrator's kubeconfig; the user's own is never read or written."""
        return self.folder / "kubeconfig"

    @property
    def origin(self) -> Origin:
        """Where its images come from."""
        return origin.remembered(self.folder) or Origin.LOCAL

    @property
    def gateway_url(self) -> str:
        """Where this machine reaches the gateway."""
        return f"http://127.0.0.1:{self._ports()['gateway']}"

    @property
    def s3_url(self) -> str:
        """Where this machine reaches the artifact store."""
        return f"http://127.0.0.1:{self._ports()['s3']}"

    def s3_credentials(self, identity: str = "admin") -> S3Credentials:
        """Keys of ``admin``, of the restricted ``trainer``, of ``predictions``, which may only put, or of ``kfp``."""
        made = self._credentials()
        found = {"admin": made.admin, "trainer": made.trainer, "predictions": made.predictions, "kfp": made.kfp}
        if identity not in found:
            raise ClusterError(f"The artifact store has no identity {identity!r}: choose one of {', '.join(found)}.")
        return found[identity]

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 120) -> str:
        """Run kubectl as the administrator and return what it printed."""
        return run(self._kubectl(), "--kubeconfig", self.kubeconfig, *arguments, input=input, timeout=timeout)

    def helm(self, *arguments: str, timeout: float = 300) -> str:
        """Run helm as the administrator, apart from the user's own helm settings."""
        home = paths.cache_folder("helm")
        return run(
            programs.helm(self.origin),
            "--kubeconfig",
            self.kubeconfig,
            *arguments,
            env={f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")},
            timeout=timeout,
        )

    def is_up(self) -> bool:
        """Whether its API server answers."""
        return self.kubeconfig.exists() and self._nodes().answers()

    def up(self, images: Wish = Wish.AUTO, *, kfp: bool = False) -> None:
        """Make everything as wanted; what already is takes no time.

        Args:
            images: where a new cluster's images come from; one that exists keeps to what it was made with.
            kfp: with Kubeflow Pipelines; one that has it keeps it without.

        Raises:
            ClusterError: something is missing or failed; the message says what to do.
        """
        with keys.lock(f"cluster-{self.name}"):
            chosen = self._choose(images)
            if kfp and chosen is Origin.LOCAL:
                raise ClusterError(
                    "Kubeflow Pipelines is installed from upstream's manifests and images, and this cluster has only "
                    "images that are made here: make one with --images upstream (after slipway cluster down)."
                )
            with self._steps.step("check this machine"):
                doctor.prepare(chosen)
            if not self.is_up():
                self._create(chosen)
            with self._steps.step("connect nodes"):
                self._connect()
            installer = self._installer()
            installer.prepare()
            self._steps.together(
                lambda: self._step("storage", lambda: installer.storage(self._credentials(), self._plan().nodes[1])),
                lambda: self._step("gateway", installer.gateway),
                lambda: self._step("kserve", installer.kserve),
            )
            if kfp:
                self._step("kubeflow pipelines", lambda: installer.kfp(self._credentials()))
            with self._steps.step("wait for every part"):
                installer.wait_until_available()
            with self._steps.step("answer on loopback"):
                self._wait_for(self.gateway_url)
                self._wait_for(f"{self.s3_url}/status")

    def down(self) -> None:
        """Remove nodes, network, volumes and data; keep what is slow to make again."""
        with keys.lock(f"cluster-{self.name}"), self._steps.step("remove cluster"):
            for found in (Engine("podman"), Engine("docker")):
                if found.works():
                    kind.delete(found, self._plan())
            shutil.rmtree(self.folder)

    def reset(self) -> None:
        """Remove what users made, and all data; keep the cluster and its stack."""
        from slipway_cluster import reset

        with keys.lock(f"cluster-{self.name}"), self._steps.step("reset"):
            reset.reset(self, self._engine, self._plan().nodes[1])
            self._installer().forget("storage")
            self._installer().storage(self._credentials(), self._plan().nodes[1])

    def build_images(self) -> list[Image]:
        """Make every image that nodes have from the start."""
        images: list[Image] = []

        def make(names: list[str]) -> None:
            for name in names:
                with self._steps.step(f"image {name}"):
                    images.append(recipes.third_party()[name]())

        # Those without a Go program first: meanwhile the compiler is busy with the others.
        slow = ["storage-initializer", "postgresql", "slipway-operator-dependencies", "seaweedfs", "envoy"]
        others = [name for name in recipes.third_party() if name not in slow]

        def make_programs_first() -> None:
            self.build_programs()
            make(others)

        self._steps.together(lambda: make(slow), make_programs_first)
        return images

    def build_programs(self, names: tuple[str, ...] = CLUSTER_PROGRAMS) -> None:
        """Build programs from Go modules, those that are missing."""
        for name in names:
            if not gobuild.is_built(name):
                with self._steps.step(f"program {name}"):
                    gobuild.binary(name)

    def build_project_images(self) -> dict[str, str]:
        """Make Slipway's own images, put them on the workers, and return their references by name.

        A reference's tag changes with the content, so that a deployment of it rolls.
        """
        return self._delivery().project()

    def build_team_image(self, name: str, package: Path) -> str:
        """Make a team's training image, the runner with a Python package on top; put it on the workers.

        Returns:
            Its reference, with a tag that changes with the content.
        """
        return self._delivery().team(name, package)

    def load_image(self, name: str) -> list[str]:
        """Put an image on the nodes that lack it, and return their names.

        Args:
            name: one of the images this package makes, or a reference that the container engine knows.
        """
        return self._delivery().one(name)

    def logs(self, what: str = "", lines: int = 100) -> str:
        """The last log lines of a node or of a deployment (``NAMESPACE/NAME``); without a name, what there is."""
        if what in self._plan().nodes:
            return self._engine.exec(what, "journalctl", "--no-pager", f"--lines={lines}")
        columns = "custom-columns=:metadata.namespace,:metadata.name"
        listed = self.kubectl("get", "deployments", "--all-namespaces", "--no-headers", f"--output={columns}")
        deployments = ["/".join(line.split()) for line in listed.splitlines()]
        if not what:
            return "\n".join([*self._plan().nodes, *deployments]) + "\n"
        if what not in deployments:
            raise ClusterError(f"Nothing here is called {what!r}: slipway cluster logs lists what has logs.")
        namespace, name = what.split("/")
        return self.kubectl("logs", f"deployment/{name}", "-n", namespace, "--all-containers", f"--tail={lines}")

    def _choose(self, images: Wish) -> Origin:
        """The origin of the cluster that exists, else of the one to make."""
        if found := origin.remembered(self.folder):
            origin.insist(images, found, self.name)
            return found
        with self._steps.step("choose images"):
            doctor.prepare_engine()
            choice = origin.choose(images, self._engine)
        self._steps.say(choice.sentence)
        return choice.origin

    def _create(self, chosen: Origin) -> None:
        if self.kubeconfig.exists() and set(self._engine.containers(self.name)) == set(self._plan().nodes):
            nodes = self._nodes()
            with self._steps.step("start nodes"):
                nodes.start()
                alive = nodes.alive()
                if alive:
                    nodes.wait_until_answering()
            if alive:
                return
        if chosen is Origin.UPSTREAM:
            self._create_nodes(chosen, versions().upstream.node, None)
            return
        images = self.build_images()
        node_image = node_images.node()
        layers.prune()
        with self._steps.step("node image"):
            self._engine.load(node_image)
        with self._steps.step("images for nodes"):
            seed = node_images.seed(images)
        self._create_nodes(chosen, node_image.names[0], seed)

    def _create_nodes(self, chosen: Origin, node_image: str, seed: Path | None) -> None:
        with self._steps.step("create nodes"):
            kind.delete(self._engine, self._plan())
            self._choose_ports()
            origin.remember(self.folder, chosen)
            try:
                kind.create(self._engine, self._plan(), node_image, seed)
            except BaseException:
                kind.delete(self._engine, self._plan())
                raise

    def _connect(self) -> None:
        nodes = self._nodes()
        nodes.wait_until_answering()
        if self.origin is Origin.LOCAL:
            nodes.connect()
        nodes.add_gpus()
        nodes.wait_until_ready()
        folders = [f"{storage.VOLUMES}/{name}" for name in ("seaweedfs", "postgresql")]
        self._engine.exec(self._plan().nodes[1], "mkdir", "-p", *folders)

    def _step(self, name: str, work: Work) -> None:
        with self._steps.step(name):
            work()

    def _nodes(self) -> kind.Nodes:
        return kind.Nodes(self._engine, self._plan(), self._kubectl)

    def _kubectl(self) -> Path:
        return programs.kubectl(self.origin, self._engine, self._plan().nodes[0], self.folder)

    def _delivery(self) -> Delivery:
        return Delivery(self.origin, self._engine, self._plan().nodes[1:], self._steps)

    def _installer(self) -> Installer:
        return Installer(self, self.folder, self.origin)

    @cached_property
    def _engine(self) -> Engine:
        return engine.find()

    def _plan(self) -> kind.Plan:
        ports = self._ports()
        mapped = [kind.Port(ports["gateway"], gateway.NODE_PORT), kind.Port(ports["s3"], storage.S3_NODE_PORT)]
        return kind.Plan(self.name, self.folder, mapped)

    def _credentials(self) -> Credentials:
        return stack_credentials.of_cluster(self.folder)

    def _ports(self) -> dict[str, int]:
        file = self.folder / "ports.json"
        if not file.exists():
            return {"gateway": GATEWAY_PORT, "s3": S3_PORT}
        return dict(json.loads(file.read_text()))

    def _choose_ports(self) -> None:
        chosen = {"gateway": _free_port(GATEWAY_PORT), "s3": _free_port(S3_PORT)}
        (self.folder / "ports.json").write_text(json.dumps(chosen))

    @staticmethod
    def _wait_for(url: str, seconds: float = 60) -> None:
        """Wait until someone answers HTTP, whatever they say."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5):
                    return
            except urllib.error.HTTPError as error:
                with error:
                    return
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"Nobody answers at {url}: {error}.") from error
                time.sleep(0.2)


def _free_port(wanted: int) -> int:
    """The port, or the next that is free."""
    for port in range(wanted, wanted + 100):
        with socket.socket() as probe:
            # What was served a moment ago may be served again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ClusterError(f"No port from {wanted} to {wanted + 99} is free on loopback.")
