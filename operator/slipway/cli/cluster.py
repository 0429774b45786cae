"""`slipway cluster`: a local cluster with everything Slipway runs on.

The work is done by the package `slipway_cluster`; this module asks, shows and says what went wrong.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from slipway_cluster.status import Line
    from slipway_cluster.steps import Reporter

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make, inspect and remove a local cluster.",
)

Name = Annotated[str, typer.Option("--name", help="Which cluster, if you have several.")]


class Images(StrEnum):
    """Where a cluster's images come from."""

    AUTO = "auto"
    UPSTREAM = "upstream"
    LOCAL = "local"


ImagesOption = Annotated[
    Images,
    typer.Option(
        "--images",
        help="upstream: by registries, Slipway's own by your engine. local: all made here. auto: ask the engine which.",
    ),
]

P = ParamSpec("P")
R = TypeVar("R")


def _sentences(command: Callable[P, R]) -> Callable[P, R]:
    """End with a sentence and code 1 when the cluster is not as wanted, and quietly on Ctrl-C."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from slipway_cluster import ClusterError

        try:
            return command(*args, **kwargs)
        except ClusterError as error:
            print(f"slipway: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print("slipway: interrupted; the same command goes on where it was.", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapped


@app.command()
@_sentences
def up(
    name: Name = "slipway",
    images: ImagesOption = Images.AUTO,
    kfp: Annotated[
        bool, typer.Option("--kfp", help="Install upstream's Kubeflow Pipelines too; needs images of registries.")
    ] = False,
    context: Annotated[
        str,
        typer.Option(help="Use the cluster of this context of your own kubeconfig: say what it lacks, change nothing."),
    ] = "",
) -> None:
    """Make the cluster, or what is missing of it; what is already as wanted takes no time."""
    if context:
        _check_existing(context)
        return
    from slipway_cluster import Cluster
    from slipway_cluster.origin import Wish

    started = time.monotonic()
    with _reporter() as reporter:
        Cluster(name, reporter).up(Wish(images.value), kfp=kfp)
    print(f"The cluster is up after {time.monotonic() - started:.0f} s.")
    _print_places(name)


def _check_existing(context: str) -> None:
    """A cluster of the user's own is only looked at: what runs there belongs to whoever installed it."""
    from slipway_cluster import status as status_of

    if not _show(status_of.existing(context)):
        print("slipway: install what is missing as docs/install.md says, then try again.", file=sys.stderr)
        raise typer.Exit(1)
    print("This cluster has what Slipway needs. Next:")
    print(f"  helm upgrade --install slipway charts/slipway --kube-context {context} \\")
    print("    --namespace slipway-system --create-namespace")


def _show(lines: Sequence[Line]) -> bool:
    """Print facts; whether all are well."""
    for line in lines:
        print(f"{'✓' if line.good else '✗'} {line.sentence}")
    return all(line.good for line in lines)


@app.command()
@_sentences
def down(name: Name = "slipway") -> None:
    """Remove the cluster with all its data; what is slow to make again stays cached."""
    from slipway_cluster import Cluster

    with _reporter() as reporter:
        Cluster(name, reporter).down()


@app.command()
@_sentences
def reset(name: Name = "slipway") -> None:
    """Remove everything that users made, and all data, and keep the cluster."""
    from slipway_cluster import Cluster

    with _reporter() as reporter:
        Cluster(name, reporter).reset()


@app.command()
@_sentences
def status(
    name: Name = "slipway",
    context: Annotated[str, typer.Option(help="Look at this context of your own kubeconfig instead.")] = "",
) -> None:
    """Say what runs and where; ends with code 1 if something does not."""
    from slipway_cluster import status as status_of

    good = _show(status_of.existing(context) if context else status_of.local(name))
    if good and not context:
        _print_places(name)
    if not good:
        raise typer.Exit(1)


@app.command()
@_sentences
def logs(
    what: Annotated[str, typer.Argument(help="A node, or a deployment as NAMESPACE/NAME; a list without it.")] = "",
    lines: Annotated[int, typer.Option(min=1, max=100_000, help="How many of the last lines.")] = 100,
    name: Name = "slipway",
) -> None:
    """Print the last log lines of a node or of a part of the stack."""
    from slipway_cluster import Cluster

    print(Cluster(name).logs(what, lines), end="")


@app.command("load-image")
@_sentences
def load_image(
    images: Annotated[list[str], typer.Argument(help="Images of this project by name, or references your engine has.")],
    name: Name = "slipway",
) -> None:
    """Put images on the workers that lack them; images of this project are made first."""
    from slipway_cluster import Cluster

    with _reporter() as reporter:
        loaded = {image: Cluster(name, reporter).load_image(image) for image in images}
    for image, nodes in loaded.items():
        print(f"{image}: " + (f"loaded on {', '.join(nodes)}" if nodes else "every worker has it"))


@app.command()
@_sentences
def doctor(images: ImagesOption = Images.AUTO) -> None:
    """Say whether this machine can run the cluster; ends with code 1 if it can not."""
    from slipway_cluster import doctor as machine
    from slipway_cluster.origin import Wish

    findings = machine.report(Wish(images.value))
    for finding in findings:
        print(f"{'✓' if finding.good else '✗'} {finding.check}: {finding.sentence}")
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


@app.command()
@_sentences
def build(
    only: Annotated[str, typer.Option(help="Programs to build, separated by commas; everything without it.")] = "",
) -> None:
    """Build what a cluster of local images is made of, without making it: Go programs, then images."""
    from slipway_cluster import Cluster

    with _reporter() as reporter:
        cluster = Cluster(reporter=reporter)
        if only:
            cluster.build_programs(tuple(_program(name.strip()) for name in only.split(",")))
        else:
            cluster.build_images()


def _program(name: str) -> str:
    """`apiserver` is short for `kube-apiserver`."""
    return {"apiserver": "kube-apiserver", "kserve": "kserve-manager"}.get(name, name)


@contextmanager
def _reporter() -> Iterator[Reporter]:
    """A live display in a terminal, plain lines elsewhere."""
    from slipway_cluster.steps import PlainReporter

    if not sys.stderr.isatty():
        yield PlainReporter()
        return
    from slipway.cli.progress import LiveReporter

    with LiveReporter() as live:
        yield live


def _print_places(name: str) -> None:
    from slipway_cluster import Cluster

    cluster = Cluster(name)
    print(f"gateway     {cluster.gateway_url}")
    print(f"S3          {cluster.s3_url}")
    print(f"kubeconfig  {cluster.kubeconfig}")
