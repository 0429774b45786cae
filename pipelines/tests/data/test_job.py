"""The entry point as the operator starts it: a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.contracts.digests import digest_bytes
from slipway.contracts.jobs import DeleteDataRequest, IngestRequest
from slipway_pipelines.store import MissingObjectError, ObjectStore

PREFIX = "jobs/flights/job-1/"


def start(store: ObjectStore, command: str, key: str, digest: str, *more: str, **environ: str) -> subprocess.Popen[str]:
    """A Job as a process."""
    variables = {
        "SLIPWAY_S3_ENDPOINT": store.endpoint,
        "SLIPWAY_S3_BUCKET": store.bucket,
        "SLIPWAY_S3_ACCESS_KEY": "test",
        "SLIPWAY_S3_SECRET_KEY": "test-secret",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "slipway_pipelines.main", command, "--request", key, "--digest", digest, *more],
        env=os.environ | variables | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and log."""
    _, log = process.communicate(timeout=100)
    return process.returncode, log


def put_request(store: ObjectStore, request: Any) -> tuple[str, str]:
    """Key and digest of a request in the store."""
    key = f"{PREFIX}request.json"
    return key, store.put_json(key, request.wire())


@pytest.fixture
def january(module_store: ObjectStore, flights: Any, flights_request: Callable[..., IngestRequest]) -> IngestRequest:
    """A request for one month."""
    return flights_request(module_store, flights.months[:1])


def test_ingest(module_store: ObjectStore, january: IngestRequest) -> None:
    code, log = finish(start(module_store, "ingest", *put_request(module_store, january)))
    assert code == 0, log
    result = module_store.get_json(f"{PREFIX}result.json")
    assert (result["verdict"], result["rows"]) == ("Passed", 27_004)
    assert module_store.get_json(f"{PREFIX}progress.json")["stage"] == "record the version"


def test_result_goes_to_another_prefix(module_store: ObjectStore) -> None:
    module_store.put_bytes("runs/ns/1/a", b"1")
    request = DeleteDataRequest(
        store={"endpoint": module_store.endpoint, "bucket": module_store.bucket},
        prefix=PREFIX,
        prefixes=["runs/ns/1/", "runs/ns/2/"],
    )
    process = start(module_store, "delete-data", *put_request(module_store, request), "--prefix", "jobs/ns/other/")
    code, log = finish(process)
    assert code == 0, log
    assert module_store.get_json("jobs/ns/other/result.json") == {"objects": 1}
    assert list(module_store.list("runs/ns/1/")) == []


def test_changed_request_is_refused(module_store: ObjectStore, january: IngestRequest) -> None:
    key, _ = put_request(module_store, january)
    code, log = finish(start(module_store, "ingest", key, digest_bytes(b"another")))
    assert code == 0
    assert "Traceback" not in log
    refusal = module_store.get_json(f"{PREFIX}result.json")["refusal"]
    assert refusal["reason"] == "DigestMismatch"
    assert refusal["message"].startswith(f"{key} has digest sha256:")


def test_request_of_another_release_is_refused(module_store: ObjectStore) -> None:
    digest = module_store.put_json(f"{PREFIX}request.json", {"prefix": PREFIX, "colour": "blue"})
    code, _ = finish(start(module_store, "ingest", f"{PREFIX}request.json", digest))
    assert code == 0
    message = module_store.get_json(f"{PREFIX}result.json")["refusal"]["message"]
    assert "the runner image and the operator are of different releases" in message


def test_wrong_spec_is_a_refusal_without_a_traceback(module_store: ObjectStore, january: IngestRequest) -> None:
    request = IngestRequest.model_validate(january.wire() | {"quality": [{"name": "r", "expect": "avg(dealy) > 1"}]})
    code, log = finish(start(module_store, "ingest", *put_request(module_store, request)))
    assert code == 0
    assert "Traceback" not in log
    refusal = module_store.get_json(f"{PREFIX}result.json")["refusal"]
    assert refusal["reason"] == "InvalidExpression"
    assert refusal["message"].startswith("spec.quality[r].expect cannot be evaluated")


def test_outage_is_an_exit_code(module_store: ObjectStore) -> None:
    missing = f"{PREFIX}not-there.json"
    code, log = finish(start(module_store, "ingest", missing, digest_bytes(b"")))
    assert code == 1
    assert f"the artifact store has no object {missing}" in log
    code, log = finish(start(module_store, "ingest", missing, digest_bytes(b""), SLIPWAY_S3_ENDPOINT=""))
    assert code == 1
    assert "the environment lacks SLIPWAY_S3_ENDPOINT" in log


@pytest.mark.slow
def test_sigterm_ends_at_once_while_duckdb_computes(module_store: ObjectStore, january: IngestRequest) -> None:
    slow = "count(*) FILTER (WHERE list_sum(list_transform(range(200000), lambda x: sin(x) + arr_delay)) > 0) >= 0"
    request = IngestRequest.model_validate(january.wire() | {"quality": [{"name": "slow", "expect": slow}]})
    result_prefix = "jobs/flights/slow/"
    process = start(module_store, "ingest", *put_request(module_store, request), "--prefix", result_prefix)
    deadline = time.monotonic() + 60
    while not _started(module_store, result_prefix):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(3)  # The month is read and checked by now: the rule computes, which takes minutes.
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, log = finish(process)
    assert code == 143
    assert "terminated: the work starts again in another pod" in log
    assert not module_store.exists(f"{result_prefix}result.json")


def _started(store: ObjectStore, prefix: str) -> bool:
    try:
        store.get_json(f"{prefix}progress.json")
    except MissingObjectError:
        return False
    return True


def test_store_keeps_folders_of_others() -> None:
    store = ObjectStore("http://127.0.0.1:1", "b", "us-east-1", "a", "s")
    for prefix in ("", "/", "datasets/", "datasets/ns", "datasets/ns/flights"):
        with pytest.raises(ValueError, match="too wide to delete"):
            store.delete_prefix(prefix)


def test_commands_are_light(tmp_path: Path) -> None:
    code = (
        "import sys, slipway_pipelines.main; "
        "print(sorted({'feast', 'duckdb', 'pandas', 'kfp', 'sklearn', 'numpy'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert answer.stdout.strip() == "[]"
