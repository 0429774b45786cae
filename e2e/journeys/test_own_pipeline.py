"""A team's own pipeline on a real cluster: out of an image, out of the store, and what an image can have wrong."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journeys.parcels import BUCKET, CODE, NAME, TEAM, Parcels, code_digest, run
from slipway.contracts.digests import digest_bytes
from slipway_cluster.versions import versions
from slipway_demo.world import Obj, condition, describe, status

pytestmark = pytest.mark.timeout(1200)

COMPILED = Path(__file__).resolve().parents[2] / "operator/tests/unit/kfp/own-pipeline.yaml"
"""The example of docs/training/own-pipelines.md, which takes any table with numbers."""
IN_IMAGE = f"/opt/{NAME}/{NAME}/pipeline.yaml"
KEY = f"pipelines/{NAME}.yaml"
SECONDS = 600
PAUSE = f"registry.k8s.io/pause:{versions().pause}"
"""On every node, and without a shell."""


class OwnRuns:
    """Runs with pipelines of their own, side by side."""

    def __init__(self, parcels: Parcels, folder: Path) -> None:
        self._parcels, self._world = parcels, parcels.world
        package = folder / NAME
        shutil.copytree(TEAM, package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(COMPILED, package / "pipeline.yaml")
        shutil.copy(TEAM.parent / "Dockerfile", folder)
        self.image = parcels.cluster.build_team_image(NAME, package)
        self._data = str(status(self._world.get("Dataset", NAME, NAME))["currentVersion"])
        self._names: list[str] = []

    def start(self, name: str, pipeline: dict[str, Any]) -> None:
        made = run("first", self._data, self.image, code_digest())
        made["metadata"] = {"name": name, "namespace": NAME, "labels": {CODE: code_digest()}}
        made["spec"] |= {
            "code": {"type": "Image", "image": {"name": self.image}},
            "parameters": {"learning_rate": 0.3},
            "pipeline": pipeline,
        }
        self._names.append(name)
        self._world.apply(made)

    def of_image(self, name: str, image: str, path: str, **more: Any) -> None:
        self.start(name, {"type": "Image", "image": {"name": image, "path": path}, **more})

    def until(self, name: str, reason: str) -> Obj:
        """The run, when its condition says so."""

        def look() -> Obj | None:
            found = self._world.get("TrainingRun", name, NAME)
            return found if condition(found, "Succeeded").get("reason") == reason else None

        found: Obj = self._world.wait(
            f"{name}: {reason}",
            look,
            timeout=SECONDS,
            state=lambda: describe(self._world.get("TrainingRun", name, NAME)),
        )
        return found

    def end(self) -> None:
        for name in self._names:
            self._world.delete("TrainingRun", name, NAME)
        self._parcels.store().remove_object(BUCKET, KEY)


@pytest.fixture
def runs(parcels: Parcels, tmp_path: Path) -> Iterator[OwnRuns]:
    made = OwnRuns(parcels, tmp_path)
    yield made
    made.end()


def test_the_same_pipeline_out_of_an_image_and_out_of_the_store_makes_one_version(
    parcels: Parcels, runs: OwnRuns
) -> None:
    content = COMPILED.read_bytes()
    parcels.store().put_object(BUCKET, KEY, io.BytesIO(content), len(content))
    runs.of_image("own-of-image", runs.image, IN_IMAGE, digest=digest_bytes(content))
    runs.start("own-of-store", {"type": "S3", "s3": {"key": KEY}})
    found = [runs.until(name, "Succeeded") for name in ("own-of-image", "own-of-store")]
    for each in found:
        assert status(each)["ownPipelineDigest"] == digest_bytes(content)
    (version,) = {status(each)["modelVersion"] for each in found}
    record = parcels.world.get("ModelVersion", version, NAME)
    assert record is not None
    assert record["spec"]["passed"], record["spec"]["verdicts"]
    assert record["spec"]["digests"]["pipeline"] == status(found[0])["pipelineDigest"]
    made_by_code = parcels.world.get("ModelVersion", parcels.versions["first"], NAME)
    assert made_by_code is not None
    assert made_by_code["spec"]["digests"]["pipeline"] != record["spec"]["digests"]["pipeline"]


def test_what_is_wrong_with_an_image_is_said(runs: OwnRuns) -> None:
    """By real nodes and their runtime's own words; nothing is trained."""
    wrong = {
        "own-nowhere": (runs.image, "/pipelines/none.yaml", "InvalidPipeline", "No such file or directory"),
        "own-folder": (runs.image, f"/opt/{NAME}", "InvalidPipeline", "cannot be copied out of image"),
        "own-large": (runs.image, "/usr/bin/python3.11", "InvalidPipeline", "and a pipeline may have"),
        "own-other": (runs.image, "/etc/hostname", "InvalidPipeline", "spec.pipeline: "),
        "own-without-cp": (PAUSE, "/pause", "InvalidPipeline", "has no command cp"),
        "own-unknown": ("localhost/no-such-image:1", IN_IMAGE, "ImageUnavailable", "cannot be pulled"),
    }
    for name, (image, path, _, _) in wrong.items():
        runs.of_image(name, image, path)
    for name, (image, path, reason, words) in wrong.items():
        found = runs.until(name, reason)
        message = condition(found, "Succeeded")["message"]
        assert words in message, (name, message)
        assert "modelVersion" not in status(found)
        if words != "spec.pipeline: ":
            assert path in message or image in message, (name, message)
