"""Numbers as a plot, where matplotlib is installed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NO_PLOT = "no plot: matplotlib is not installed; pip install 'mtdnn[plot]', then the same command again"
WIDTH, HEIGHT = 6.0, 4.2  # inches of one panel
MOST_COLUMNS = 3  # panels side by side
FORMATS = ("png", "svg")


@dataclass(frozen=True)
class Marker:
    """The shape of a curve's points.

    :param name: matplotlib's.
    :param path: the same shape in SVG, around the origin.
    """

    name: str
    path: str


MARKERS = (
    Marker("o", "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z"),
    Marker("s", "M-3-3H3V3H-3z"),
    Marker("D", "M0-4.2L4.2 0L0 4.2L-4.2 0z"),
    Marker("^", "M0-4L3.9 3H-3.9z"),
    Marker("v", "M0 4L3.9-3H-3.9z"),
    Marker("P", "M-1.3-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4V-1.3H-1.3z"),
    Marker("X", "M-4-2.2L-2.2-4L0-1.8L2.2-4L4-2.2L1.8 0L4 2.2L2.2 4L0 1.8L-2.2 4L-4 2.2L-1.8 0z"),
    Marker("*", "M0-4.6L1.2-1.5L4.4-1.4L1.9.6L2.7 3.7L0 1.9L-2.7 3.7L-1.9.6L-4.4-1.4L-1.2-1.5z"),
)
DASHES: tuple[tuple[int, ...], ...] = ((), (7, 4), (2, 3), (10, 3, 2, 3), (4, 2))  # strokes and gaps; solid first


def marker_of(number: int) -> Marker:
    """The shape that tells a panel's curve from the others, whatever its colour."""
    return MARKERS[number % len(MARKERS)]


def dashes_of(number: int) -> tuple[int, ...]:
    """Its strokes and gaps, in pixels; with the shape, another look for each of 40 curves."""
    return DASHES[number % len(DASHES)]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot.

    :param spread: half the length of the error bar at each point; none by default.
    :param band: show the spread as a band and not as error bars.
    :param most: what no value can exceed; the spread ends there.
    :param level: a horizontal line at ``y[0]``, for what does not depend on x.
    :param singles: the values that each ``y`` is the mean of, shown as small points; none by default.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    band: bool = False
    most: float = math.inf
    level: bool = False
    singles: Sequence[Sequence[float]] = ()

    def single_points(self) -> list[tuple[float, float]]:
        return [(x, y) for x, values in zip(self.x, self.singles, strict=False) for y in values]

    def edges(self) -> tuple[list[float], list[float]]:
        """The lower and the upper ends of the spread."""
        spread = self.spread or [0.0] * len(self.y)
        pairs = list(zip(self.y, spread, strict=True))
        return [max(y - half, -self.most) for y, half in pairs], [min(y + half, self.most) for y, half in pairs]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes.

    :param ticks: where the x-axis has marks, and their words; at round numbers by default.
    :param log_x: equal ratios of x are equally far apart.
    """

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    ticks: Mapping[float, str] = field(default_factory=dict)
    log_x: bool = False

    def y_limits(self) -> tuple[float, float]:
        """The ends of the y-axis: every value with some room, and of the spreads so much that values fill a third."""
        values = [y for curve in self.curves for y in (*curve.y, *(y for _, y in curve.single_points()))] or [0.0, 1.0]
        low, high = min(values), max(values)
        ends = [edge for curve in self.curves for edges in curve.edges() for edge in edges] or values
        room = high - low or math.inf
        return widened(max(min(low, *ends), low - room), min(max(high, *ends), high + room), share=0.05)


def widened(low: float, high: float, *, share: float) -> tuple[float, float]:
    """A range that is not empty, with some room at both ends."""
    if low == high:
        return low - 0.5 * abs(low or 1.0), high + 0.5 * abs(high or 1.0)
    room = share * (high - low)
    return low - room, high + room


def draw(panels: Sequence[Panel], stem: Path) -> list[Path]:
    """``<stem>.png`` and ``<stem>.svg``, the panels in rows; no file where matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return []
    columns = min(len(panels), MOST_COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    for number, panel in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(rows, columns, number), panel)
    paths = [stem.parent / f"{stem.name}.{suffix}" for suffix in FORMATS]
    with mpl.rc_context({"svg.hashsalt": "mtdnn"}):  # the same numbers give the same bytes
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _draw_panel(axes: Any, panel: Panel) -> None:
    if panel.log_x:
        axes.set_xscale("log")
        axes.minorticks_off()
    for number, curve in enumerate(panel.curves):
        _draw_curve(axes, curve, number)
    if panel.ticks:
        axes.set_xticks(list(panel.ticks), list(panel.ticks.values()))
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label, ylim=panel.y_limits())
    axes.legend(fontsize="small", framealpha=0.6, handlelength=3)


def _draw_curve(axes: Any, curve: Curve, number: int) -> None:
    marker, colour = marker_of(number).name, f"C{number}"
    dashes = tuple(length / 2 for length in dashes_of(number))
    look = {"linestyle": (0, dashes) if dashes else "-", "color": colour, "label": curve.name}
    if curve.level:
        axes.axhline(curve.y[0], **look)
        return
    if curve.spread is None or curve.band:
        axes.plot(curve.x, curve.y, marker=marker, markersize=4, **look)
    else:
        axes.errorbar(curve.x, curve.y, yerr=curve.spread, marker=marker, markersize=4, capsize=3, **look)
    if curve.band:
        axes.fill_between(curve.x, *curve.edges(), color=colour, alpha=0.15, linewidth=0)
    for x, y in curve.single_points():
        axes.plot(x, y, marker=marker, markersize=2.5, color=colour, alpha=0.6)
