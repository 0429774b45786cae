"""Answers under a confidence are no predictions: what clients get instead, and how it is counted."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.contracts import decisions
from slipway.contracts.digests import canonical_json, digest_bytes
from slipway.contracts.jobs import ManifestFile
from slipway_server.abstaining import Abstention, Ask, decide
from slipway_server.settings import AbstainSettings, read_settings

if TYPE_CHECKING:
    from conftest import Server

    from slipway.contracts.jobs import ModelManifest

Serve = Callable[..., contextlib.AbstractContextManager["Server"]]
FLIGHT: dict[str, Any] = {"carrier": "UA", "hour": 7, "distance": 1400.0, "late_share_7d": 0.9, "queue": 3.0}
SHARES = [n / 20 for n in range(21)]


# ---- without a server ------------------------------------------------------------------------------------------------
async def sure_of_all(columns: dict[str, list[Any]], rows: int) -> list[float]:
    """A baseline that answers 0.9 for even numbers and 0.2 for odd ones."""
    assert len(columns["n"]) == rows
    return [0.2 if n % 2 else 0.9 for n in columns["n"]]


async def broken(columns: dict[str, list[Any]], rows: int) -> list[float]:
    """A baseline that fails."""
    raise ValueError(f"no {rows} rows of {columns}")


async def no_number(_: dict[str, list[Any]], rows: int) -> list[float]:
    """A baseline whose arithmetic overflows."""
    return [float("nan")] * rows


def told(below: float, baseline: Ask | None, *probabilities: float) -> list[tuple[Any, ...]]:
    """Label, probability and source of each answer; instances are numbered."""
    columns = {"n": list(range(len(probabilities)))}
    found = asyncio.run(decide(Abstention(below, baseline), columns, probabilities))
    return [(each.label, each.probability, each.source) for each in found]


@pytest.mark.parametrize(
    ("below", "probability", "label"),
    [
        (0.7, 0.7, True),
        (0.7, 0.6999, None),
        (0.7, 0.3, False),
        (0.7, 0.3001, None),
        (0.7, 0.5, None),
        (0.7, 0.0, False),
        (1.0, 1.0, True),
        (1.0, 0.9999, None),
    ],
)
def test_the_confidence_itself_is_enough(below: float, probability: float, label: bool | None) -> None:
    expected = (label, None, "none") if label is None else (label, probability, "model")
    assert told(below, None, probability) == [expected]


def test_the_baseline_answers_for_the_rows_that_the_model_is_unsure_of_alone() -> None:
    assert told(0.7, sure_of_all, 0.6, 0.9, 0.55, 0.45, 0.1) == [
        (True, 0.9, "baseline"),
        (True, 0.9, "model"),
        (True, 0.9, "baseline"),
        (False, 0.2, "baseline"),
        (False, 0.1, "model"),
    ]


@pytest.mark.parametrize("baseline", [broken, no_number])
def test_a_baseline_that_fails_answers_nothing_and_fails_no_request(baseline: Ask) -> None:
    assert told(0.7, baseline, 0.6, 0.9) == [(None, None, "none"), (True, 0.9, "model")]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.5, 1, exclude_min=True))
def test_coverage_here_is_coverage_in_training(probabilities: list[float], below: float) -> None:
    """What the model answers is the share that an evaluation counts, and what it says then is its own decision."""
    found = told(below, None, *probabilities)
    share = sum(source == "model" for _, _, source in found) / len(found)
    values = np.array(probabilities)
    assert share == decisions.coverage(probabilities, below) == (np.maximum(values, 1 - values) >= below).mean()
    assert all(
        label == (p >= 0.5) for (label, _, source), p in zip(found, probabilities, strict=True) if source != "none"
    )


@pytest.mark.parametrize(
    ("environment", "settings"),
    [
        ({}, None),
        ({"SLIPWAY_ABSTAIN_FALLBACK": "Baseline"}, None),
        ({"SLIPWAY_ABSTAIN_BELOW": "0.7"}, AbstainSettings(0.7, False)),
        ({"SLIPWAY_ABSTAIN_BELOW": "1", "SLIPWAY_ABSTAIN_FALLBACK": "Baseline"}, AbstainSettings(1.0, True)),
    ],
)
def test_settings(environment: dict[str, str], settings: AbstainSettings | None) -> None:
    assert read_settings([], environment).abstain == settings


# ---- a real server ---------------------------------------------------------------------------------------------------
def add_baseline(folder: Path, register: Callable[..., ModelManifest]) -> None:
    """A plain logistic regression beside the model, as the registration of a version stores it."""
    import joblib
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = pd.DataFrame({"late_share_7d": [0.0, 0.1, 0.9, 1.0]})
    model = make_pipeline(make_column_transformer((SimpleImputer(), ["late_share_7d"])), LogisticRegression(C=100))
    joblib.dump(model.fit(rows, [False, False, True, True]), folder / "baseline.joblib")
    data = (folder / "baseline.joblib").read_bytes()
    register(folder, baseline=ManifestFile(path="baseline.joblib", digest=digest_bytes(data), size=len(data)))


@pytest.fixture(scope="module")
def folder(
    model_folder: Path, register: Callable[..., ModelManifest], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    made = shutil.copytree(model_folder, tmp_path_factory.mktemp("abstaining") / "model")
    add_baseline(made, register)
    return made


@pytest.fixture(scope="module")
def silent(serve: Serve, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that abstains."""
    digest = digest_bytes((folder / "manifest.json").read_bytes())
    settings = {"SLIPWAY_MANIFEST_DIGEST": digest, "SLIPWAY_ABSTAIN_BELOW": "0.7"}
    with serve(folder, tmp_path_factory.mktemp("silent") / "log", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def falling_back(serve: Serve, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose baseline answers instead."""
    settings = {"SLIPWAY_ABSTAIN_BELOW": "0.7", "SLIPWAY_ABSTAIN_FALLBACK": "Baseline"}
    with serve(folder, tmp_path_factory.mktemp("baseline") / "log", **settings) as running:
        yield running


def flights() -> list[dict[str, Any]]:
    """From surely early to surely late."""
    return [FLIGHT | {"late_share_7d": share} for share in SHARES]


def answered(server: Server) -> dict[str, float]:
    """slipway_predictions_total by source."""
    prefix = 'slipway_predictions_total{source="'
    lines = [line for line in server.client.get("/metrics").text.splitlines() if line.startswith(prefix)]
    return {line[len(prefix) :].split('"')[0]: float(line.split()[-1]) for line in lines}


def test_a_server_abstains_where_the_model_is_unsure(server: Server, silent: Server) -> None:
    plain = server.predict(*flights()).json()["predictions"]
    found = silent.predict(*flights(), x_request_id="unsure").json()["predictions"]
    unsure = [max(each["probability"], 1 - each["probability"]) < 0.7 for each in plain]
    assert 0 < sum(unsure) < len(unsure)
    for before, after, abstained in zip(plain, found, unsure, strict=True):
        assert set(before) == {"label", "probability"}
        sure = pytest.approx(max(before["probability"], 1 - before["probability"]))
        if abstained:
            expected = {"label": None, "probability": None, "confidence": sure, "source": "none", "abstained": True}
        else:
            expected = {**before, "confidence": sure, "source": "model", "abstained": False}
            expected["probability"] = pytest.approx(before["probability"])
        assert after == expected
    record = silent.client.get("/slipway/requests/unsure").json()
    assert record["sources"] == {"model": len(unsure) - sum(unsure), "none": sum(unsure)}
    assert "sources" not in server.client.get(f"/slipway/requests/{record_of(server)}").json()


def record_of(server: Server) -> str:
    """The id of a fresh request."""
    return str(server.predict(FLIGHT).headers["x-request-id"])


@pytest.mark.slow
def test_the_baseline_answers_and_says_so(server: Server, falling_back: Server) -> None:
    plain = server.predict(*flights()).json()["predictions"]
    found = falling_back.predict(*flights()).json()["predictions"]
    sources = [each["source"] for each in found]
    assert set(sources) == {"model", "baseline"}
    for before, after in zip(plain, found, strict=True):
        assert after["abstained"] is False
        assert after["label"] is (after["probability"] >= 0.5)
        assert after["confidence"] == pytest.approx(max(before["probability"], 1 - before["probability"]))
        assert (after["source"] == "model") == (after["probability"] == pytest.approx(before["probability"]))
    assert falling_back.client.get("/metrics").text.count("slipway_baseline_seconds_count") > 0


@pytest.mark.slow
def test_answers_are_counted_by_who_gave_them(server: Server, silent: Server, falling_back: Server) -> None:
    for one, asked in ((server, {"model"}), (silent, {"model", "none"}), (falling_back, {"model", "baseline"})):
        before = answered(one)
        one.predict(*flights())
        grown = {source: count - before[source] for source, count in answered(one).items() if count > before[source]}
        assert set(grown) == asked
        assert sum(grown.values()) == len(SHARES)


def v2(server: Server) -> dict[str, Any]:
    """Outputs of the same flights by protocol v2, by name."""
    kinds = {"carrier": "BYTES", "hour": "INT64", "distance": "FP64", "late_share_7d": "FP64", "queue": "FP64"}
    inputs = [
        {"name": name, "shape": [len(SHARES)], "datatype": kind, "data": [each[name] for each in flights()]}
        for name, kind in kinds.items()
    ]
    answer = server.client.post("/v2/models/flight-delays/infer", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


@pytest.mark.slow
@pytest.mark.parametrize("which", ["silent", "falling_back"])
def test_protocol_v2_says_the_same(which: str, request: pytest.FixtureRequest) -> None:
    one: Server = request.getfixturevalue(which)
    found = one.predict(*flights()).json()["predictions"]
    outputs = v2(one)
    for name in ("source", "abstained"):
        assert outputs[name]["data"] == [each[name] for each in found]
    # A tensor of BOOL has no null: whoever reads labels has to read `abstained` too.
    assert outputs["label"]["data"] == [bool(each["label"]) for each in found]
    assert [each is None for each in outputs["probability"]["data"]] == [each["probability"] is None for each in found]
    assert outputs["confidence"]["data"] == pytest.approx([each["confidence"] for each in found])
    described = one.client.get("/v2/models/flight-delays").json()["outputs"]
    assert [(each["name"], each["datatype"]) for each in described] == [
        (name, outputs[name]["datatype"]) for name in outputs
    ]


def test_what_nobody_answered_is_no_number_for_typed_clients(silent: Server) -> None:
    from kserve import InferOutput

    outputs = v2(silent)
    unsure = np.array(outputs["abstained"]["data"])
    probability = outputs["probability"]
    typed = InferOutput("probability", probability["shape"], probability["datatype"], probability["data"]).as_numpy()
    assert (np.isnan(typed) == unsure).all()


def test_without_abstention_v2_has_the_outputs_that_it_always_had(server: Server) -> None:
    assert set(v2(server)) == {"label", "probability"}


@pytest.mark.slow
def test_a_version_without_a_baseline_abstains_and_says_so(serve: Serve, model_folder: Path, tmp_path: Path) -> None:
    settings = {"SLIPWAY_ABSTAIN_BELOW": "0.999", "SLIPWAY_ABSTAIN_FALLBACK": "Baseline"}
    with serve(model_folder, tmp_path / "log", **settings) as running:
        (found,) = running.predict(FLIGHT | {"late_share_7d": 0.5}).json()["predictions"]
        assert (found["label"], found["source"]) == (None, "none")
        assert any("registered without a baseline" in line["message"] for line in running.lines())


def test_the_manifest_of_an_earlier_release_still_loads(folder: Path) -> None:
    from slipway.contracts.jobs import ModelManifest

    manifest = ModelManifest.model_validate_json((folder / "manifest.json").read_bytes())
    assert manifest.baseline is not None
    earlier = {name: value for name, value in manifest.wire().items() if name != "baseline"}
    assert ModelManifest.model_validate_json(canonical_json(earlier)).baseline is None
