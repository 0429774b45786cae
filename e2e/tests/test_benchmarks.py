"""What benchmarks rest on: the played statistics, the counting of requests, and a page that agrees with the results."""

from __future__ import annotations

import json
import re
import time
from xml.etree import ElementTree

import pytest
from benchmarks import apiserver, charts, page, programs
from benchmarks.charts import Panel
from benchmarks.contenders.argo import Argo
from benchmarks.contenders.flagger import Flagger
from benchmarks.contenders.slipway import Slipway
from benchmarks.gateway import Statistics

from slipway.adapters.envoy_stats import parse

CLUSTER = "service/flights/delays-1-predictor/80/http"


def test_the_page_and_its_plots_say_what_the_results_say() -> None:
    assert page.stale() == []


def test_a_part_of_the_page_that_nobody_writes_is_noticed() -> None:
    with pytest.raises(KeyError, match="unknown"):
        page.render("<!-- begin unknown -->\n<!-- end -->\n", {})


def test_a_part_without_results_says_so() -> None:
    assert "*Not measured yet.*" in page.render("<!-- begin reaction -->\nold\n<!-- end -->\n", {})


@pytest.mark.parametrize(("program", "name"), [(programs.ARGO, "argo-rollouts"), (programs.FLAGGER, "flagger")])
def test_the_page_names_the_versions_that_are_built(program: programs.Program, name: str) -> None:
    pinned = re.search(r"^require \S+ v(\S+)$", (program.folder / "go.mod").read_text(), re.MULTILINE)
    assert pinned
    assert page.TITLES[name].endswith(pinned[1])


def test_played_statistics_are_read_as_envoys_are() -> None:
    statistics = Statistics(rate=100)
    statistics.add(CLUSTER)
    before = parse(statistics.text())
    assert before.healthy == {CLUSTER}
    assert before.counters[CLUSTER].failed == 0
    statistics.fail(CLUSTER, 200)
    time.sleep(0.05)
    after = parse(statistics.text()).counters[CLUSTER].since(before.counters[CLUSTER])
    assert after.failed >= 200
    assert after.answered - after.failed <= 50, "the rate, not more"
    assert after.timed == after.answered
    statistics.remove(CLUSTER)
    assert parse(statistics.text()).counters == {}


def event(user: str, verb: str, resource: str, subresource: str = "") -> bytes:
    reference = {"resource": resource, **({"subresource": subresource} if subresource else {})}
    return json.dumps({"user": {"username": user}, "verb": verb, "objectRef": reference}).encode() + b"\n"


def test_requests_are_counted_by_user_and_leases_apart() -> None:
    log = [
        event("slipway", "patch", "httproutes"),
        event("slipway", "update", "modelrollouts", "status"),
        event("slipway", "get", "leases"),
        event("slipway", "update", "leases"),
        event("slipway", "watch", "pods"),
        event("slipway", "list", "pods"),
        event("flagger", "get", "deployments"),
        event("slipway", "get", "pods")[:-1],
    ]
    found = apiserver.count(log, "slipway")
    assert (found.reads, found.writes, found.leases) == (1, 2, 1)
    assert found.by["update modelrollouts/status"] == 1


def test_bars_are_as_long_as_their_values() -> None:
    svg = ElementTree.fromstring(charts.bars([Panel("Seconds", {"one": 10.0, "two": 40.0}, "s")]))
    widths = [float(each.attrib["width"]) for each in svg.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[1] == pytest.approx(4 * widths[0])


def test_every_run_is_a_dot() -> None:
    svg = ElementTree.fromstring(charts.dots("Runs", {"one": [1.0, 2.0], "two": [3.0]}, 3.0, "s"))
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}circle"))) == 3


def test_contenders_tell_what_is_stable_and_what_is_under_way() -> None:
    slipway = Slipway()
    assert slipway.look({"status": {"stable": "v1"}}).release == "v1"
    assert slipway.look({"status": {"stable": "v1", "candidate": "v2", "weight": 20}}).release == ""
    argo = {"observedGeneration": "2", "phase": "Healthy", "stableRS": "a", "currentPodHash": "a"}
    assert Argo().look({"metadata": {"generation": 2}, "status": argo}).release == "a"
    assert Argo().look({"metadata": {"generation": 3}, "status": argo}).release == "", "not observed yet"
    flagger = {"phase": "Progressing", "lastPromotedSpec": "x", "canaryWeight": 20}
    assert Flagger().look({"status": flagger}).weight == 20
    assert Flagger().look({"status": flagger}).release == ""
    assert Flagger().look({"status": {**flagger, "phase": "Succeeded"}}).release == "x"
