"""Random lists of steps of all kinds, and strategies, as the API server would take them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from unit.modelrollout.world import PROJECT

Spec = dict[str, Any]

HEADERS = [{"name": "x-preview", "exact": "yes"}]
OTHERS = [{"name": "x-team", "prefix": "flights"}, {"name": "x-user", "regex": "[a-m].*"}]

ANYWHERE: list[Spec] = [
    {"pause": {"for": "5s"}},
    {"analyze": {"for": "10s"}},
    {"setScale": {"replicas": 1}},
    {"setScale": {"replicas": 3}},
    {"setScale": {"percent": 50}},
    {"setScale": {"matchWeight": True}},
    {"setHeaderRoute": {"match": HEADERS}},
    {"setHeaderRoute": {"match": OTHERS}},
    {"setHeaderRoute": {}},
]
BEFORE_USERS = [*ANYWHERE, {"mirror": {"percent": 30, "for": "10s"}}, {"mirror": {"for": "5s"}}, {"setWeight": 0}]


VERSIONS = [{"policy": "NewestPassing"}, *({"modelVersionRef": {"name": f"{PROJECT}-{n:010x}"}} for n in range(1, 6))]


@st.composite
def experiment(draw: st.DrawFn, weight: int) -> Spec:
    """Up to three arms beside a candidate with this weight, as far as there is room for them."""
    count = draw(st.integers(1, min(3, 99 - weight)))
    versions = draw(st.lists(st.sampled_from(VERSIONS), min_size=count, max_size=count, unique_by=str))
    percent = draw(st.integers(1, (99 - weight) // count))
    arms = [{"name": f"arm-{index}", "percent": percent, **each} for index, each in enumerate(versions)]
    return {"experiment": {"for": "10s", "candidatePercent": weight, "arms": arms, "minimumRequests": 50}}


@st.composite
def written(draw: st.DrawFn) -> Spec:
    """A list that judges the version on users' requests right before the end, so that no edit can leave that out."""
    actions = draw(st.lists(st.sampled_from(BEFORE_USERS), max_size=4))
    for weight in sorted(draw(st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True))):
        compared = weight < 99 and draw(st.booleans())
        actions += [
            draw(experiment(weight)) if compared else {"setWeight": weight},
            *draw(st.lists(st.sampled_from(ANYWHERE), max_size=2)),
        ]
    steps = [{"name": f"step-{index}", **action} for index, action in enumerate(actions)]
    end = draw(st.sampled_from([{"name": "everyone", "setWeight": 100}, {"name": "end", "stop": {}}]))
    return {"steps": [*steps, {"name": "watch-last", "analyze": {"for": "20s"}}, end], "strategy": None}


JUDGED: list[Spec] = [
    {"canary": {"weights": [10, 50], "analyze": {"for": "20s"}}},
    {"shadow": {"percent": 50, "for": "10s", "then": {"weights": [20], "analyze": {"for": "20s"}}}},
    {"ab": {"percent": 50, "for": "20s", "onEnd": "Promote"}},
    {"ab": {"header": HEADERS, "for": "20s", "onEnd": "Stop"}},
    {"progressive": {"stepWeight": 30, "interval": "20s"}},
]
"""Strategies after which a failing version cannot be the stable one, whatever list was there before."""

UNJUDGED: list[Spec] = [
    {"canary": {"weights": [10], "pause": {"for": "5s"}}},
    {"shadow": {"for": "10s"}},
    {"blueGreen": {"autoPromote": True, "after": "10s", "preview": HEADERS}},
]
"""Strategies that end without a person, and need not have judged a version that came from another list."""

BY_HAND: list[Spec] = [
    {"blueGreen": {"preview": HEADERS}},
    {"ab": {"header": HEADERS, "for": "10s", "onEnd": "Pause"}},
]


def named(strategies: list[Spec]) -> st.SearchStrategy[Spec]:
    return st.sampled_from(strategies).map(lambda each: {"steps": None, "strategy": each})


ENDING = st.one_of(written(), named([*JUDGED, *UNJUDGED]))
"""What comes to its end without a person."""
ANY = st.one_of(ENDING, named(BY_HAND))


def judges(spec: Spec) -> bool:
    """Whether a failing version is always found out."""
    return spec["strategy"] is None or spec["strategy"] in JUDGED
