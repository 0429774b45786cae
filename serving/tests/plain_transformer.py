"""A transformer as KServe's SDK makes it, which adds an input that clients do not know. Run by tests, with the
arguments that a rollout gives it."""

from __future__ import annotations

import argparse
from typing import Any

import kserve

parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
known, _ = parser.parse_known_args()


class Prepare(kserve.Model):  # type: ignore[misc]
    """Nothing is said about headers here: what the SDK does with them is the point."""

    def __init__(self) -> None:
        super().__init__(known.model_name)
        self.ready = True

    def preprocess(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Fill in the queue."""
        return {"instances": [{"queue": 3.0, **each} for each in payload["instances"]]}


kserve.ModelServer(workers=1, enable_grpc=False).start([Prepare()])
