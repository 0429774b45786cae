"""`slipway crds …`: the CustomResourceDefinitions and everything else that is generated from the typed models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The CustomResourceDefinitions of the Slipway API.", no_args_is_help=True)


@app.command("print")
def print_() -> None:
    """Print every CRD as YAML: `slipway crds print | kubectl apply --server-side -f -`."""
    from slipway.api import KINDS
    from slipway.api.generate import crd_yaml

    typer.echo("---\n".join(crd_yaml(kind) for kind in KINDS), nl=False)


@app.command()
def generate(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file is stale.")] = False,
    root: Annotated[
        Path | None, typer.Option(help="The repository; the one that this runs from unless given.", show_default=False)
    ] = None,
) -> None:
    """Write CRDs, the chart's templates of them and the reference pages into the repository."""
    from slipway.api import generate as files

    where = root or files.ROOT
    if not (where / "pyproject.toml").exists():
        typer.echo(f"{where} is not Slipway's repository: name it with --root.", err=True)
        raise typer.Exit(2)
    if not check:
        files.write(where)
        return
    drift = files.drift(where)
    for line in drift:
        typer.echo(line, err=True)
    raise typer.Exit(1 if drift else 0)
