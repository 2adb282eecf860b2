"""Charts: line charts as SVG in the colours of the page, each with a table of its numbers for screen readers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

_WIDTH, _HEIGHT = 520, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 60
_NUM_TICKS = 5
_MOST_LETTERS = 60  # that fit side by side below an axis
_LETTER = 6.5  # average width in pixels


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: Name in the legend.
        x: (N,) positions on the x axis.
        y: (N,) positions on the y axis.
        low: (N,) lower ends of the intervals of `y`; empty if there are none.
        high: (N,) upper ends of the intervals of `y`; empty if there are none.
        role: `head`, `finetune` or `ideal`; it decides the colour.
        has_marks: Whether the points are marked.
        is_joined: Whether a line joins the points and a band their intervals. If not, each point has a bar of its own.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    role: str = "head"
    has_marks: bool = True
    is_joined: bool = True


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        label: Name of the quantity, with its unit if there is one.
        names: Names of the positions 1, 2, ...; empty if the axis shows numbers.
        short_names: What stands below the axis instead of the names; empty for the names.
        is_log: Whether the scale is logarithmic.
        is_whole: Whether only whole numbers get a tick.
        low: Start of the axis; None for the smallest value.
        high: End of the axis; None for the largest value.
    """

    label: str
    names: Sequence[str] = ()
    short_names: Sequence[str] = ()
    is_log: bool = False
    is_whole: bool = False
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        title: Title.
        svg: The picture, as SVG markup.
        legend: `(name, role)` of each line.
        columns: Headers of the table of numbers.
        rows: Rows of the table of numbers.
    """

    title: str
    svg: str
    legend: Sequence[tuple[str, str]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def line_chart(title: str, x_axis: Axis, y_axis: Axis, lines: Sequence[Series]) -> Chart:
    """Draw lines on common axes.

    Args:
        title: Title of the chart.
        x_axis: The x axis.
        y_axis: The y axis.
        lines: Lines to draw. A line without points is left out.
    """
    drawn = [line for line in lines if len(line.x)]
    x_scale = _Scale(x_axis, [value for line in drawn for value in line.x], _LEFT, _WIDTH - _RIGHT)
    y_values = [value for line in drawn for values in (line.y, line.low, line.high) for value in values]
    y_scale = _Scale(y_axis, y_values, _HEIGHT - _BOTTOM, _TOP)
    root = ET.Element("svg", {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img", "aria-label": title})
    _draw_axes(root, x_axis, y_axis, x_scale, y_scale)
    for line in drawn:
        group = ET.SubElement(root, "g", {"class": f"line {line.role}"})
        xs, ys = [x_scale.place(value) for value in line.x], [y_scale.place(value) for value in line.y]
        if line.low:
            lows, highs = ([y_scale.place(value) for value in values] for values in (line.low, line.high))
            _draw_intervals(group, xs, lows, highs, is_joined=line.is_joined)
        if line.is_joined:
            ET.SubElement(group, "polyline", {"points": _points(list(zip(xs, ys, strict=True)))})
        for x, y in zip(xs, ys, strict=True) if line.has_marks or len(xs) == 1 else ():
            ET.SubElement(group, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "3.5"})
    return Chart(
        title=title,
        svg=ET.tostring(root, encoding="unicode"),
        legend=[(line.name, line.role) for line in drawn],
        columns=["line", x_axis.label, y_axis.label, "low", "high"],
        rows=[row for line in drawn for row in _rows(line, x_axis)],
    )


def _rows(line: Series, x_axis: Axis) -> list[list[str]]:
    lows, highs = ([f"{value:.4g}" for value in values] or [""] * len(line.x) for values in (line.low, line.high))
    names = [x_axis.names[round(value) - 1] if x_axis.names else f"{value:.4g}" for value in line.x]
    values = [f"{value:.4g}" for value in line.y]
    return [[line.name, *cells] for cells in zip(names, values, lows, highs, strict=True)]


def _draw_intervals(
    group: ET.Element, xs: Sequence[float], lows: Sequence[float], highs: Sequence[float], *, is_joined: bool
) -> None:
    """Draw intervals as one band, or as a bar for each point."""
    if is_joined:
        edge = [*zip(xs, highs, strict=True), *reversed(list(zip(xs, lows, strict=True)))]
        ET.SubElement(group, "polygon", {"class": "band", "points": _points(edge)})
        return
    for x, low, high in zip(xs, lows, highs, strict=True):
        ends = {"x1": f"{x:.1f}", "x2": f"{x:.1f}", "y1": f"{low:.1f}", "y2": f"{high:.1f}"}
        ET.SubElement(group, "line", ends)


class _Scale:
    """Maps values to pixels."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, end: float) -> None:
        self._start, self._end, self._is_log, self._is_whole = start, end, axis.is_log, axis.is_whole
        self.low = min(values, default=1.0) if axis.low is None else axis.low
        self.high = max(values, default=2.0) if axis.high is None else axis.high
        if self.low == self.high:
            self.low, self.high = self.low - 0.5, self.high + (0.5 if axis.high is None else 0.0)
        if axis.names:
            self.low, self.high = 0.5, len(axis.names) + 0.5

    def place(self, value: float) -> float:
        low, high = self._shown(self.low), self._shown(self.high)
        return self._start + (self._end - self._start) * (self._shown(value) - low) / (high - low)

    def ticks(self) -> list[float]:
        """Return round numbers on the axis: powers of 2 on a logarithmic scale, else steps of 1, 2 or 5."""
        if self._is_log:
            powers = [
                2.0**power for power in range(math.ceil(math.log2(self.low)), math.floor(math.log2(self.high)) + 1)
            ]
            if len(powers) > 1:
                return powers[:: math.ceil(len(powers) / (2 * _NUM_TICKS))]
        rough = (self.high - self.low) / _NUM_TICKS
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
        step = max(step, 1.0) if self._is_whole else step
        first = math.ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, math.floor(self.high / step + 1e-9) + 1)]

    def _shown(self, value: float) -> float:
        return math.log2(value) if self._is_log else value


def _draw_axes(root: ET.Element, x_axis: Axis, y_axis: Axis, x_scale: _Scale, y_scale: _Scale) -> None:
    group = ET.SubElement(root, "g", {"class": "axes"})
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    for value in y_scale.ticks():
        y = f"{y_scale.place(value):.1f}"
        ET.SubElement(group, "line", {"x1": f"{_LEFT}", "x2": f"{right}", "y1": y, "y2": y})
        _write(group, f"{value:.4g}", _LEFT - 6, y_scale.place(value) + 4, "end")
    names = x_axis.short_names or x_axis.names
    named = [(float(number), name) for number, name in enumerate(names, start=1)]
    is_crowded = sum(map(len, names)) > _MOST_LETTERS
    for value, name in named or [(value, f"{value:.4g}") for value in x_scale.ticks()]:
        x = x_scale.place(value)
        most = int(x / _LETTER) if is_crowded else len(name)
        # Names of neighbouring layers often differ only at the end, so the end is kept.
        tick = _write(group, name if len(name) <= most else f"…{name[1 - most :]}", x, bottom + 16, "middle")
        if is_crowded:
            tick.set("text-anchor", "end")
            tick.set("transform", f"rotate(-20 {x:.1f} {bottom + 10})")
    _write(group, x_axis.label, (_LEFT + right) / 2, _HEIGHT - 8, "middle")
    label = _write(group, y_axis.label, 14, (bottom + _TOP) / 2, "middle")
    label.set("transform", f"rotate(-90 14 {(bottom + _TOP) / 2:.1f})")


def _write(parent: ET.Element, text: str, x: float, y: float, anchor: str) -> ET.Element:
    element = ET.SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})
    element.text = text
    return element


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
