"""A panel as SVG inside a page: it takes the page's colours, light or dark, and its words are text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mtdnn.report.figures import Curve, Panel, dashes_of, marker_of, widened

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 46
NUM_TICKS = 5
NUM_COLOURS = 8  # classes c0 to c7 of the page's style sheet


@dataclass(frozen=True)
class Axis:
    """From values to places."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, here = (math.log10(each) if self.log else each for each in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (here - low) / (high - low)


def svg(panel: Panel) -> str:
    """The panel, with a sentence for those who cannot see it."""
    x_axis, y_axis = axes_of(panel)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(described(panel))}">',
        *grid(panel, x_axis, y_axis),
        *bands(panel, x_axis, y_axis),
        *(part for number, curve in enumerate(panel.curves) for part in drawn(curve, number, x_axis, y_axis)),
        "</svg>",
    ]
    return "".join(parts)


def key(number: int) -> str:
    """A short piece of a panel's curve, for the legend."""
    stroke = line(number, 'x1="0" x2="32" y1="6" y2="6"')
    return f'<svg class="key" viewBox="0 0 32 12" aria-hidden="true">{stroke}{dot(number, "16,6")}</svg>'


def described(panel: Panel) -> str:
    """Every curve's first and last point, in words."""
    ends = [
        f"{curve.name} from {curve.y[0]:.3g} at {curve.x[0]:g} to {curve.y[-1]:.3g} at {curve.x[-1]:g}"
        for curve in panel.curves
        if curve.x
    ]
    return f"{panel.title}: {panel.y_label} over {panel.x_label}. {'; '.join(ends)}"


def axes_of(panel: Panel) -> tuple[Axis, Axis]:
    xs = [x for curve in panel.curves for x in curve.x]
    x_low, x_high = widened(min(xs, default=0.0), max(xs, default=1.0), share=0.0)
    y_low, y_high = panel.y_limits()
    return (
        Axis(x_low, x_high, LEFT, WIDTH - RIGHT, log=panel.log_x),
        Axis(y_low, y_high, HEIGHT - BOTTOM, TOP),
    )


def round_ticks(low: float, high: float) -> list[float]:
    """About :data:`NUM_TICKS` multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def grid(panel: Panel, x_axis: Axis, y_axis: Axis) -> list[str]:
    parts = []
    for value in round_ticks(y_axis.low, y_axis.high):
        y = y_axis.place(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    ticks = panel.ticks or {value: f"{value:.4g}" for value in round_ticks(x_axis.low, x_axis.high)}
    for value, words in ticks.items():
        place = x_axis.place(value)
        parts.append(f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(words)}</text>')
    across, down = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text x="{across}" y="{HEIGHT - 8}" text-anchor="middle">{escape(panel.x_label)}</text>')
    turned = f'transform="rotate(-90 14 {down})"'
    parts.append(f'<text x="14" y="{down}" text-anchor="middle" {turned}>{escape(panel.y_label)}</text>')
    return parts


def colour(number: int) -> str:
    return f"c{number % NUM_COLOURS}"


def bands(panel: Panel, x_axis: Axis, y_axis: Axis) -> list[str]:
    """The spreads of all curves, beneath them, cut off where the axes end."""
    box = f"{LEFT} {TOP} {WIDTH - RIGHT - LEFT} {HEIGHT - BOTTOM - TOP}"
    x, y, width, height = box.split()
    parts = [f'<svg x="{x}" y="{y}" width="{width}" height="{height}" viewBox="{box}">']
    for number, curve in enumerate(panel.curves):
        if curve.spread and any(curve.spread):
            low, high = curve.edges()
            outline = points(curve.x, high, x_axis, y_axis) + points(curve.x, low, x_axis, y_axis)[::-1]
            parts.append(f'<polygon class="band {colour(number)}" points="{" ".join(outline)}"/>')
    return [*parts, "</svg>"] if len(parts) > 1 else []


def drawn(curve: Curve, number: int, x_axis: Axis, y_axis: Axis) -> list[str]:
    """A curve with its points, a tooltip at each, and the single values that they are means of."""
    if curve.level:
        y = y_axis.place(curve.y[0])
        return [line(number, f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"')]
    places = points(curve.x, curve.y, x_axis, y_axis)
    parts = [line(number, f'points="{" ".join(places)}"', shape="polyline")]
    for x, y in curve.single_points():
        parts.append(dot(number, f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}", size=0.6))
    for place, x, y in zip(places, curve.x, curve.y, strict=True):
        parts.append(dot(number, place, told=f"{curve.name}: {y:.4g} at {x:g}"))
    return parts


def line(number: int, ends: str, *, shape: str = "line") -> str:
    dashes = " ".join(map(str, dashes_of(number)))
    broken = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<{shape} class="line {colour(number)}"{broken} {ends}/>'


def dot(number: int, place: str, *, size: float = 1.0, told: str = "") -> str:
    scaled = "" if size == 1 else f" scale({size})"
    start = f'<path class="dot {colour(number)}" d="{marker_of(number).path}" transform="translate({place}){scaled}"'
    return f"{start}><title>{escape(told)}</title></path>" if told else f"{start}/>"


def points(xs: Sequence[float], ys: Sequence[float], x_axis: Axis, y_axis: Axis) -> list[str]:
    return [f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}" for x, y in zip(xs, ys, strict=True)]
