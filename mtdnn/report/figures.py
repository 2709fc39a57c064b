"""Numbers as CSV, and the same numbers as a plot where matplotlib is installed."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from mtdnn.errors import ConfigError
from mtdnn.report.table import in_csv

NO_PLOT = "no plot: matplotlib is not installed; pip install 'mtdnn[plot]', then the same command again"
WIDTH, HEIGHT = 6.0, 4.2  # inches of one panel
FORMATS = ("png", "svg")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of a plot.

    :param spread: half the length of the error bar at each point; none by default.
    :param band: show the spread as a band and not as error bars.
    :param most: what no value can exceed; the spread ends there.
    :param level: a horizontal line at ``y[0]``, for what does not depend on x.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    band: bool = False
    most: float = inf
    level: bool = False

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


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Write a table; the folder is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(map(in_csv, row) for row in [header, *rows])
    except OSError as error:
        raise ConfigError(f"--out: {path} cannot be written: {error.strerror}; give another place") from error
    return path


def draw(panels: Sequence[Panel], stem: Path) -> list[Path]:
    """``<stem>.png`` and ``<stem>.svg``, the panels side by side; no file where matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return []
    figure = Figure(figsize=(WIDTH * len(panels), HEIGHT), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_panel(axes, panel)
    paths = [stem.parent / f"{stem.name}.{suffix}" for suffix in FORMATS]
    with mpl.rc_context({"svg.hashsalt": "mtdnn"}):  # the same numbers give the same bytes
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _draw_panel(axes: Any, panel: Panel) -> None:
    if panel.log_x:
        axes.set_xscale("log")
        axes.minorticks_off()
    for curve in panel.curves:
        if curve.level:
            axes.axhline(curve.y[0], linestyle="--", color="grey", label=curve.name)
        elif curve.spread is None:
            axes.plot(curve.x, curve.y, label=curve.name)
        elif curve.band:
            (line,) = axes.plot(curve.x, curve.y, marker="o", markersize=3, label=curve.name)
            axes.fill_between(curve.x, *curve.edges(), color=line.get_color(), alpha=0.15, linewidth=0)
        else:
            axes.errorbar(curve.x, curve.y, yerr=curve.spread, marker="o", capsize=3, label=curve.name)
    if panel.ticks:
        axes.set_xticks(list(panel.ticks), list(panel.ticks.values()))
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    axes.legend(fontsize="small", framealpha=0.6)
