"""The operator at rest and the serving path, on the local cluster where the flights example serves."""

from __future__ import annotations

from typing import Any

from benchmarks import operator_at_rest, serving_overhead
from benchmarks.process import machine
from slipway_demo.acts import ROLLOUT, Play
from slipway_demo.install import install
from slipway_demo.story import Story
from slipway_demo.world import status


class NotServing(Exception):
    """The flights example has to serve before anything can be measured."""


def measure(idle_seconds: float, rate: float, seconds: float) -> dict[str, Any]:
    """Measure operator memory, idle writes and the gateway's overhead.

    :param idle_seconds: how long the operator is watched at rest
    :param rate: requests a second
    :param seconds: how long each path is measured
    :raises NotServing: `make demo` has to be run first
    """
    with Story("benchmarks", plain=True) as story:
        with story.add("Cluster and Slipway").running() as node:
            play = Play(install(node), story)
        if status(play.get("ModelRollout", ROLLOUT)).get("phase") != "Healthy":
            raise NotServing("The flights example does not serve here: run `make demo` first.")
        with story.add("operator at rest").running():
            at_rest = operator_at_rest.measure(play.world, idle_seconds)
        with story.add("serving overhead").running():
            serving = serving_overhead.measure(play, rate, seconds)
    return {"machine": machine(), "operatorAtRest": at_rest, "servingOverhead": serving}
