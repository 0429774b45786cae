"""What KServe itself would make of our InferenceServices: its own code, built from the pinned module."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slipway.runtime.resources import Object
from slipway_cluster import gobuild

RUNTIMES = ("sklearnserver", "xgbserver", "lgbserver", "tritonserver", "huggingfaceserver", "mlserver")


@cache
def program() -> Path:
    made = gobuild.Program("kserve-contract", "kservecontract", ".", root=Path(__file__).parent)
    return gobuild.build(made) / made.name


@cache
def stock_runtimes() -> tuple[Object, ...]:
    """As KServe ships them."""
    folder = gobuild.module_folder("kserve", "github.com/kserve/kserve") / "config" / "runtimes"
    return tuple(yaml.safe_load((folder / f"kserve-{name}.yaml").read_text()) for name in RUNTIMES)


def judged(services: Sequence[Object], runtimes: Sequence[Object] = ()) -> list[dict[str, Any]]:
    """One answer a service: what KServe's validation says, or the objects that it would make."""
    question = {"runtimes": [*stock_runtimes(), *runtimes], "services": list(services)}
    done = subprocess.run(
        [program()], input=json.dumps(question).encode(), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return list(json.loads(done.stdout))
