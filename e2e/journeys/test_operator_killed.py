"""The operator is killed at three places of a project's life; the end is the same, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from slipway_demo.acts import FIRST_MONTHS, PROJECT, RATE, ROLLOUT, Play
from slipway_demo.client import upload
from slipway_demo.world import Objs, status

pytestmark = pytest.mark.timeout(1500)


def test_killed_while_ingesting_training_and_rolling_out(play_in: Callable[[str], Play]) -> None:
    play = play_in("killed")
    act = play.story.add("Operator killed at three places")
    upload(play.cluster, FIRST_MONTHS, prefix=play.prefix)
    play.apply()

    play.world.wait("the ingest Job of flights", lambda: _jobs(play, "flights-ingest"), timeout=120)
    play.world.kill_operator()
    play.world.wait("a training Job", lambda: _jobs(play, "-train-"), timeout=240, state=play.state)
    play.world.kill_operator()
    first = play.healthy(act, "version 1 serves", bool)

    play.start_client()
    play.world.wait("answers", lambda: play.counts().ok > RATE, timeout=60)
    play.world.patch("ModelProject", PROJECT, {"spec": {"training": {"seed": 8}}}, play.namespace)
    play.wait_for("ModelRollout", ROLLOUT, lambda o: 0 < int(status(o).get("weight") or 0) < 100, 300)
    play.world.kill_operator()
    second = play.healthy(act, "version 2 serves", lambda name: name != first)

    counts = play.stop_clients()
    assert counts.lost == 0, counts.losses
    assert counts.version_errors == 0
    assert counts.versions.keys() <= {first, second}
    assert len(play.world.objects("TrainingRun", play.namespace)) == 2
    assert len(play.world.objects("ModelVersion", play.namespace)) == 2
    assert len(_jobs(play, "flights-ingest")) == 1
    assert len(_jobs(play, "-train-")) == 2
    assert len(_jobs(play, "-judge-")) == 2


def _jobs(play: Play, part: str) -> Objs:
    return [job for job in play.world.objects("Job", play.namespace, "batch/v1") if part in job["metadata"]["name"]]
