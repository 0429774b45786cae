"""`slipway-job COMMAND --request KEY --digest SHA256 [--prefix PREFIX]`: one step, asked and answered through S3.

This module stays light: a command's libraries are imported when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import ValidationError

from slipway.api.reasons import Reason
from slipway.contracts import jobs, predictions
from slipway_pipelines.errors import OutageError, RefusalError, UserCodeError
from slipway_pipelines.store import ObjectStore, ProgressWriter

log = logging.getLogger("slipway.job")

EXIT_OUTAGE = 1
EXIT_USER_CODE = 3
EXIT_TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Command:
    """A command: the models of its request and result, and where its function is (`module:function`)."""

    request: type[jobs.Request]
    result: type[jobs.Contract]
    function: str


COMMANDS: dict[str, Command] = {
    "ingest": Command(jobs.IngestRequest, jobs.IngestResult, "slipway_pipelines.data.ingest:run_ingest"),
    "features": Command(jobs.FeatureRequest, jobs.FeatureResult, "slipway_pipelines.features.commands:run_features"),
    "features-teardown": Command(
        jobs.FeatureTeardownRequest,
        jobs.FeatureTeardownResult,
        "slipway_pipelines.features.commands:run_features_teardown",
    ),
    "delete-data": Command(
        jobs.DeleteDataRequest, jobs.DeleteDataResult, "slipway_pipelines.data.delete:run_delete_data"
    ),
    "compare": Command(
        predictions.CompareRequest, predictions.CompareResult, "slipway_pipelines.predictions.compare:run_compare"
    ),
    "sweep-predictions": Command(
        predictions.SweepRequest, predictions.SweepResult, "slipway_pipelines.predictions.sweep:run_sweep"
    ),
    "copy-pipeline": Command(
        jobs.CopyPipelineRequest, jobs.CopyPipelineResult, "slipway_pipelines.training.copied:run_copy_pipeline"
    ),
    "train": Command(jobs.TrainingRequest, jobs.ProduceResult, "slipway_pipelines.training.commands:run_train"),
    "judge": Command(jobs.TrainingRequest, jobs.RegisterResult, "slipway_pipelines.training.commands:run_judge"),
}
"""Every function has the signature `(request, store, progress) -> result`."""

JobFunction = Callable[[jobs.Request, ObjectStore, ProgressWriter], jobs.Contract]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code: 0 result, 1 outage, 3 the team's code raised, 143 terminated."""
    arguments = parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    end_on_sigterm()
    try:
        return run(COMMANDS[arguments.command], arguments.request, arguments.digest, arguments.prefix)
    except OutageError as error:
        log.error("%s", error)
        return EXIT_OUTAGE


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="slipway-job", description="One step of Slipway's work.")
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--request", required=True, metavar="KEY", help="key of the request in the artifact store")
    parser.add_argument("--digest", required=True, metavar="SHA256", help="digest that the request must have")
    parser.add_argument(
        "--prefix",
        default=None,
        metavar="PREFIX",
        help="where progress.json and result.json go, ending in /; the folder of the request when left out",
    )
    arguments = parser.parse_args(argv)
    if arguments.prefix is not None and not arguments.prefix.endswith("/"):
        parser.error("--prefix must end in /")
    return arguments


def run(command: Command, key: str, digest: str, prefix: str | None) -> int:
    """Reads the request, does the work, writes the result."""
    store = ObjectStore.from_environment()
    folder = prefix or key.rpartition("/")[0] + "/"
    exit_code = 0
    try:
        request = read_request(command, store, key, digest)
        result = load(command.function)(request, store, ProgressWriter(store, folder))
    except RefusalError as refusal:
        log.error("%s: %s", refusal.reason, refusal.message)
        result = command.result.model_validate({"refusal": refusal.refusal()})
        exit_code = EXIT_USER_CODE if isinstance(refusal, UserCodeError) else 0
    store.put_json(f"{folder}result.json", result.wire())
    log.info("done: %s", store.uri(f"{folder}result.json"))
    return exit_code


def read_request(command: Command, store: ObjectStore, key: str, digest: str) -> jobs.Request:
    """The request. RefusalError when it was changed, or was written by another release of the operator."""
    data = store.get_bytes(key, digest)
    try:
        return command.request.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RefusalError(
            Reason.InternalError,
            f"The request {key} has {where} as this image does not know it ({first['msg']}): "
            "the runner image and the operator are of different releases; install both from the same one.",
        ) from None


def load(function: str) -> JobFunction:
    """The function of a command, its libraries imported only now."""
    module, _, name = function.partition(":")
    return cast(JobFunction, getattr(importlib.import_module(module), name))


def end_on_sigterm() -> None:
    """Ends the process as soon as SIGTERM comes, also while native code computes.

    Python runs signal handlers only between byte codes, and a process with pid 1 ignores signals without a handler. The
    C-level handler writes to a pipe at once, and a thread reads it. Ending anywhere is safe: an object is written whole
    or not at all, and databases roll back.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, _ignore)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def watch() -> None:
        while signal.SIGTERM not in os.read(reader, 64):
            pass
        sys.stderr.write("terminated: the work starts again in another pod\n")
        sys.stderr.flush()
        os._exit(EXIT_TERMINATED)

    threading.Thread(target=watch, name="sigterm", daemon=True).start()


def _ignore(*_: Any) -> None:
    """The Python-level handler; the thread of `end_on_sigterm` acts."""


if __name__ == "__main__":
    sys.exit(main())
