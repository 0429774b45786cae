"""The comparison as one page of HTML with plots inside: no script, nothing to fetch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from slipway.contracts.predictions import CompareRequest, CompareResult, Deltas

_WIDTH, _HEIGHT, _MARGIN = 560, 200, 24
_COLOURS = {"stable": "#3b6ea5", "candidate": "#d9822b", "differences": "#5a8f3c"}
_STYLE = (
    "body{font:15px sans-serif;margin:2em auto;max-width:60em;color:#222}table{border-collapse:collapse}"
    "td,th{padding:.3em .8em;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
)
_NAMES = {
    "pairs": "pairs",
    "unpaired_stable": "stable only",
    "unpaired_candidate": "candidate only",
    "decision_change_percent": "changed decisions, %",
    "mean_delta": "mean difference",
    "mean_absolute_delta": "mean absolute difference",
    "p95_absolute_delta": "95th percentile",
    "worst_delta": "worst",
    "population_stability": "PSI",
    "kolmogorov_smirnov": "KS",
    "jensen_shannon": "JS",
    "stable_coverage_percent": "coverage (stable), %",
    "candidate_coverage_percent": "coverage (candidate), %",
}


def page(request: CompareRequest, result: CompareResult, plots: Mapping[str, Sequence[float]]) -> str:
    """The page. `plots` has counts by bin from 0 to 1: stable, candidate, differences."""
    assert result.overall is not None
    rows: list[tuple[str, Deltas, str]] = [("all requests", result.overall, "")]
    rows += [(each.name, each, each.note or "") for each in result.slices]
    parts = [
        f"<h1>{escape(request.candidate)} against {escape(request.stable)}</h1>",
        f"<p>Rollout {escape(request.namespace)}/{escape(request.rollout)}, answers from {escape(request.since)} to"
        f" {escape(request.until)}. Differences are the candidate's probability minus the stable version's.</p>",
        "<h2>Answers</h2>",
        _table(["", *_NAMES.values(), ""], ([title, *_values(each), note] for title, each, note in rows)),
        "<h2>Probabilities of all answers</h2>",
        _plot({side: plots[side] for side in ("stable", "candidate")}),
        "<h2>Absolute differences of pairs</h2>",
        _plot({"differences": plots["differences"]}),
        "<h2>Inputs</h2>",
        _table(
            ["", "other value in pairs, %", "PSI", "missing (stable), %", "missing (candidate), %"],
            (
                [
                    each.name,
                    each.changed_percent,
                    each.population_stability,
                    each.stable_missing_percent,
                    each.candidate_missing_percent,
                ]
                for each in result.inputs
            ),
        ),
    ]
    title = f"{escape(request.candidate)} against {escape(request.stable)}"
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return head + "".join(parts) + "</html>"


def _values(deltas: Deltas) -> list[object]:
    return [getattr(deltas, field) for field in _NAMES]


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    def cells(tag: str, values: Iterable[object]) -> str:
        return "".join(f"<{tag}>{'' if value is None else escape(str(value))}</{tag}>" for value in values)

    lines = [f"<tr>{cells('th', header)}</tr>", *(f"<tr>{cells('td', row)}</tr>" for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _plot(series: Mapping[str, Sequence[float]]) -> str:
    """Shares by bin as steps, one colour a series."""
    shares = {label: [count / (sum(counts) or 1) for count in counts] for label, counts in series.items()}
    top = max([share for values in shares.values() for share in values], default=0) or 1
    shapes = [
        f'<polyline fill="none" stroke="{_COLOURS[label]}" stroke-width="2" points="{_points(values, top)}"/>'
        f'<text x="{_MARGIN + 110 * number}" y="14" fill="{_COLOURS[label]}">{escape(label)}</text>'
        for number, (label, values) in enumerate(shares.items())
    ]
    axis = (
        f'<line x1="{_MARGIN}" y1="{_HEIGHT}" x2="{_WIDTH - _MARGIN}" y2="{_HEIGHT}" stroke="#888"/>'
        f'<text x="{_MARGIN}" y="{_HEIGHT + 18}">0</text>'
        f'<text x="{_WIDTH - _MARGIN - 8}" y="{_HEIGHT + 18}">1</text>'
        f'<text x="{_WIDTH - 90}" y="14">top {100 * top:.1f} %</text>'
    )
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT + _MARGIN}" width="{_WIDTH}" height="{_HEIGHT + _MARGIN}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {box}>{axis}{"".join(shapes)}</svg>'


def _points(values: Sequence[float], top: float) -> str:
    width = (_WIDTH - 2 * _MARGIN) / max(1, len(values))
    corners = []
    for number, value in enumerate(values):
        y = _HEIGHT - (_HEIGHT - _MARGIN) * value / top
        corners += [(_MARGIN + width * number, y), (_MARGIN + width * (number + 1), y)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
