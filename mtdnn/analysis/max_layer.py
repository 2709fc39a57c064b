"""How good RAPT is by the highest layer that it may perturb, from the results of a run.

Pereira et al., 2022, "RAPT", figures 2 and 3: the metric on the development set over max_layer, with "embed" for noise
on the embeddings alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from mtdnn.errors import ConfigError
from mtdnn.methods import ATTACHMENT
from mtdnn.registry import build
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.rapt import Rapt
from mtdnn.report.figures import Curve, Panel
from mtdnn.report.tables import Line, lines

EMBEDDINGS = 0  # max_layer of noise on the embeddings
HEADER = ("stage", "task", "fraction", "metric", "max_layer", "validation", "test", "n")
CSV_HEADER = ("stage", "task", "fraction", "metric", "system", "max_layer", "split", "mean", "sd", "n")
SPLITS = ("validation", "test")
Results = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Point:
    """One system's metric on one task.

    :param max_layer: 0 for the embeddings; None for a system without RAPT.
    """

    max_layer: int | None
    line: Line

    @property
    def name(self) -> str:
        return self.line.system if self.max_layer is None else layer_name(self.max_layer)

    @property
    def group(self) -> tuple[str, str, float | None, str]:
        return (self.line.stage, self.line.task, self.line.fraction, self.line.metric)


def layer_name(max_layer: int) -> str:
    return "embed" if max_layer == EMBEDDINGS else str(max_layer)


def points_of(results: Results) -> list[Point]:
    """Every system's lines, those without RAPT first, then by max_layer.

    :raises ConfigError: when no system has RAPT, or two have the same max_layer.
    """
    layers = dict.fromkeys(result["system"] for result in results) | max_layers(results)
    systems = {layer: system for system, layer in layers.items() if layer is not None}
    if not systems:
        raise ConfigError("no system of this run has RAPT; mtdnn run rapt_figures_max_layer makes one that has")
    for system, layer in layers.items():
        if layer is not None and systems[layer] != system:
            raise ConfigError(f"systems {system} and {systems[layer]} both have max_layer {layer_name(layer)}")
    points = [Point(layers[line.system], line) for line in lines(results)]
    return sorted(points, key=lambda point: -1 if point.max_layer is None else point.max_layer)


def max_layers(results: Results) -> dict[str, int | None]:
    """The max_layer of each system that has RAPT, read from what its cells were trained with."""
    found: dict[str, int | None] = {}
    for result in results:
        system = result["system"]
        for options in result["inputs"]["stage"]["regularizers"]:
            if options.get("type") == "rapt" and found.setdefault(system, max_layer_of(options)) != max_layer_of(
                options
            ):
                raise ConfigError(f"system {system} has RAPT with different values of max_layer; one system a value")
    return found


def max_layer_of(options: Mapping[str, Any]) -> int:
    own = {name: value for name, value in options.items() if name not in ATTACHMENT}
    rapt = build(REGULARIZERS, own, where="results.json: regularizers")
    assert isinstance(rapt, Rapt)
    return EMBEDDINGS if rapt.where == "embeddings" else rapt.max_layer


def grouped(points: Iterable[Point]) -> dict[tuple[str, str, float | None, str], list[Point]]:
    """The points of each stage, task, fraction and metric."""
    groups: dict[tuple[str, str, float | None, str], list[Point]] = {}
    for point in points:
        groups.setdefault(point.group, []).append(point)
    return groups


def rows(points: Iterable[Point]) -> list[tuple[str, ...]]:
    """The printed table, times 100; in the order of :data:`HEADER`."""
    return [
        (*point.line.cells()[1:5], point.name, *point.line.cells()[5:])
        for group in grouped(points).values()
        for point in group
    ]


def csv_rows(points: Iterable[Point]) -> list[tuple[Any, ...]]:
    """A row per point and split, as the metrics give them; in the order of :data:`CSV_HEADER`."""
    return [
        (*group, point.line.system, point.name, split, mean(values), spread(values), len(values))
        for group, members in grouped(points).items()
        for point in members
        for split in SPLITS
        if (values := getattr(point.line, split))
    ]


def spread(values: Sequence[float]) -> float:
    """The standard deviation; 0 for a single value."""
    return stdev(values) if len(values) > 1 else 0.0


def panels(points: Iterable[Point]) -> list[Panel]:
    """A panel per stage, task, fraction and metric: a curve a split, and a level for each system without RAPT."""
    return [panel(group, members) for group, members in grouped(points).items()]


def panel(group: tuple[str, str, float | None, str], points: Sequence[Point]) -> Panel:
    stage, task, fraction, metric = group
    layers = [point.max_layer for point in points if point.max_layer is not None]
    return Panel(
        title=f"{task}, {stage}" + ("" if fraction is None else f", {100 * fraction:g} %"),
        x_label="max_layer",
        y_label=f"{metric} x 100",
        curves=[curve for split in SPLITS if (curve := split_curve(points, split)).x] + levels(points),
        ticks={float(layer): layer_name(layer) for layer in layers},
    )


def split_curve(points: Sequence[Point], split: str) -> Curve:
    """Mean and standard deviation over seeds, times 100, of the systems with RAPT."""
    known = [
        (point.max_layer, values)
        for point in points
        if point.max_layer is not None and (values := getattr(point.line, split))
    ]
    return Curve(
        name=f"RAPT, {split}",
        x=[float(layer) for layer, _ in known],
        y=[100 * mean(values) for _, values in known],
        spread=[100 * spread(values) for _, values in known],
    )


def levels(points: Sequence[Point]) -> list[Curve]:
    """The validation means of systems without RAPT."""
    return [
        Curve(name=f"{point.name}, validation", x=[], y=[100 * mean(point.line.validation)], level=True)
        for point in points
        if point.max_layer is None and point.line.validation
    ]
