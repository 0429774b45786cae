"""`slipway`: the command line's root. Commands live in their own modules and are imported only when they are used.

So `slipway --help` needs neither kopf nor a Kubernetes client, and a command whose packages are not installed says what
to install instead of failing with an import error.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from slipway.runtime.errors import Unavailable, UserError

COMMANDS = {
    "cluster": ("slipway.cli.cluster", "Make, inspect and remove a local cluster."),
    "crds": ("slipway.cli.crds", "Print or generate the custom resource definitions."),
    "demo": ("slipway.cli.demo", "Show the whole journey from data to a canary."),
    "lint": ("slipway.cli.lint", "Check manifests offline: schema, rules and references."),
    "rollout": ("slipway.cli.rollout", "Watch a rollout and control it: promote, pause, abort, undo."),
    "run": ("slipway.cli.run", "Look at a training run: what its tasks print."),
    "why": ("slipway.cli.why", "Trace a prediction back to version, data and code."),
}
"""Name → its module, and the line in the help. A module that does not exist is not offered.

The module has a Typer `app` with sub-commands, or one function called like the command.
"""


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted({*super().list_commands(ctx), *(name for name in COMMANDS if _exists(name))})

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """For the help: the name and its line are enough."""
        if cmd_name in COMMANDS and _exists(cmd_name):
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1])
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args and args[0] in COMMANDS and _exists(args[0]):
            return args[0], _load(args[0]), args[1:]
        return super().resolve_command(ctx, args)


def _exists(name: str) -> bool:
    return importlib.util.find_spec(COMMANDS[name][0]) is not None


def _load(name: str) -> Any:
    """The real command; exits with a sentence when a package that it needs is missing."""
    try:
        module: Any = importlib.import_module(COMMANDS[name][0])
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "slipway":
            raise  # a defect of ours, no missing package
        print(
            f"slipway {name} needs the Python package {error.name}, which is not installed: "
            "pip install 'slipway[operator]'.",
            file=sys.stderr,
        )
        sys.exit(2)
    if hasattr(module, "app"):
        return typer.main.get_command(module.app)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    single.command(name)(getattr(module, name))
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A Kubernetes-native MLOps platform: from data to a canaried model, declared in YAML.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"slipway {version('slipway')}")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A Kubernetes-native MLOps platform: from data to a canaried model, declared in YAML."""


def main() -> None:
    """Entry point of the `slipway` command; what the user can mend ends with a sentence and code 1."""
    try:
        app()
    except (UserError, Unavailable) as error:
        print(f"slipway: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
