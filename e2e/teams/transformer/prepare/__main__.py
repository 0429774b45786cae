"""Writes depots as the model knows them, and says in each answer which version it belongs to."""

from __future__ import annotations

import argparse
import os
from typing import Any

import kserve

parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
known, _ = parser.parse_known_args()


class Prepare(kserve.Model):  # type: ignore[misc] # the SDK is not typed
    """The SDK passes the caller on to the model server, and the model server's headers back."""

    def __init__(self) -> None:
        super().__init__(known.model_name, return_response_headers=True)
        self.ready = True

    def preprocess(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Clients may write a depot in capitals."""
        return {"instances": [{**each, "depot": each["depot"].lower()} for each in payload["instances"]]}

    def postprocess(
        self,
        result: dict[str, Any],
        headers: dict[str, str] | None = None,  # noqa: ARG002
        response_headers: dict[str, str] | None = None,  # noqa: ARG002
    ) -> dict[str, Any]:
        """The version that this transformer was started for."""
        return {**result, "preparedBy": os.environ["VERSION"]}


kserve.ModelServer(workers=1, enable_grpc=False).start([Prepare()])
