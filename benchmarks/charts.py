"""Bar and dot charts as SVG, with nothing but the standard library: readable in light and dark, without a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

_WIDTH, _LABEL, _ROW, _BAR, _HEAD = 760, 230, 26, 16, 40
_COLOURS = ("#4078c0", "#c05a40", "#6a9a3a", "#8a63b0", "#b8860b")
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;font-size:13px}"
    "line{stroke:#999}@media (prefers-color-scheme:dark){text{fill:#ccc}line{stroke:#777}}"
)


@dataclass(frozen=True)
class Panel:
    """Bars with a title.

    :param bars: values by label, in their order
    :param unit: behind each number
    """

    title: str
    bars: Mapping[str, float]
    unit: str


def bars(panels: Sequence[Panel]) -> str:
    """Panels of horizontal bars, one below the other, each with a scale of its own; a label keeps its colour."""
    labels = list(dict.fromkeys(label for panel in panels for label in panel.bars))
    colours = {label: _COLOURS[index % len(_COLOURS)] for index, label in enumerate(labels)}
    height = sum(_HEAD + _ROW * len(panel.bars) for panel in panels) + 10
    svg = _svg(height)
    top = 0.0
    for panel in panels:
        _text(svg, 10, top + 26, panel.title, "title")
        longest = max(panel.bars.values(), default=0.0) or 1.0
        top += _HEAD
        for label, value in panel.bars.items():
            _text(svg, 20, top + 13, label)
            width = max(1.0, (_WIDTH - _LABEL - 110) * value / longest)
            where = {"x": _LABEL, "y": top, "width": width, "height": _BAR, "fill": colours[label]}
            _add(svg, "rect", where)
            _text(svg, _LABEL + width + 6, top + 13, f"{value:g} {panel.unit}".strip())
            top += _ROW
    return _document(svg)


def dots(title: str, rows: Mapping[str, Sequence[float]], target: float, unit: str) -> str:
    """A row of dots for each label, one a measurement, and a line where the target is."""
    height = _HEAD + _ROW * len(rows) + 40
    svg = _svg(height)
    _text(svg, 10, 26, title, "title")
    longest = max([target, *(value for values in rows.values() for value in values)]) * 1.05
    scale = (_WIDTH - _LABEL - 40) / longest
    for index, (label, values) in enumerate(rows.items()):
        middle = _HEAD + _ROW * index + 10
        _text(svg, 20, middle + 4, label)
        for value in values:
            at = {"cx": _LABEL + value * scale, "cy": middle, "r": 4, "fill": _COLOURS[index], "fill-opacity": 0.6}
            _add(svg, "circle", at)
    bottom = _HEAD + _ROW * len(rows)
    at_target = _LABEL + target * scale
    _add(svg, "line", {"x1": at_target, "x2": at_target, "y1": _HEAD - 6, "y2": bottom, "stroke-dasharray": "4 3"})
    _text(svg, at_target + 4, bottom + 4, f"target {target:g} {unit}")
    _add(svg, "line", {"x1": _LABEL, "x2": _WIDTH - 20, "y1": bottom + 8, "y2": bottom + 8})
    for step in range(6):
        value = longest * step / 5
        _text(svg, _LABEL + value * scale - 8, bottom + 24, f"{value:.1f}")
    return _document(svg)


def _svg(height: float) -> ElementTree.Element:
    size = {"width": str(_WIDTH), "height": f"{height:g}", "viewBox": f"0 0 {_WIDTH} {height:g}"}
    svg = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size})
    ElementTree.SubElement(svg, "style").text = _STYLE
    return svg


def _add(svg: ElementTree.Element, kind: str, attributes: Mapping[str, object]) -> ElementTree.Element:
    texts = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in attributes.items()}
    return ElementTree.SubElement(svg, kind, texts)


def _text(svg: ElementTree.Element, x: float, y: float, words: str, kind: str = "") -> None:
    element = _add(svg, "text", {"x": x, "y": y, **({"class": kind} if kind else {})})
    element.text = words


def _document(svg: ElementTree.Element) -> str:
    ElementTree.indent(svg)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"
