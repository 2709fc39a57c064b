"""Learning curves over the fractions of the data, and losses over the training."""

from collections.abc import Iterator, Sequence
from statistics import mean, stdev

from mtdnn.report.figures import Curve, Panel
from mtdnn.report.study import Group, Section, Study
from mtdnn.statistics import paired_difference

MOST_PANELS = 24
FEWEST = 3  # seeds of a band: Student's t of two has 12.7 standard errors


def learning_curves(study: Study) -> Section | None:
    tasks = list(dict.fromkeys(group.task for group in study.last if group.fraction is not None))
    panels = [panel for task in tasks if (panel := learning_panel(study, task))]
    return (
        Section(
            name="learning-curves",
            title="Learning curves",
            text=[
                f"Mean over seeds; the band is the 95 % interval of the mean where there are {FEWEST} seeds or more, "
                "cut off where the axis ends. Small points are the single seeds where there are fewer."
            ],
            panels=panels,
            open=True,
        )
        if panels
        else None
    )


def learning_panel(study: Study, task: str) -> Panel | None:
    groups = [group for group in study.last if group.task == task and group.fraction is not None]
    fractions = sorted({group.fraction for group in groups if group.fraction is not None})
    if len(fractions) < 2:
        return None
    split = study.best_split(groups[0])
    by_system = {system: [g for g in groups if g.system == system] for system in study.systems}
    return Panel(
        title=task,
        x_label="share of the training data, %",
        y_label=f"{split} {groups[0].metric} × 100",
        curves=[fraction_curve(system, own, split) for system, own in by_system.items() if own],
        ticks={100 * fraction: f"{100 * fraction:g}" for fraction in fractions},
        log_x=True,
    )


def fraction_curve(system: str, groups: Sequence[Group], split: str) -> Curve:
    chosen = sorted((g for g in groups if g.values(split)), key=lambda group: group.fraction or 0.0)
    values = [list(group.values(split).values()) for group in chosen]
    return Curve(
        name=system,
        x=[100 * (group.fraction or 0.0) for group in chosen],
        y=[100 * mean(each) for each in values],
        spread=[100 * half_interval(each) for each in values],
        band=True,
        most=100.0,
        singles=[[100 * value for value in each] if 1 < len(each) < FEWEST else [] for each in values],
    )


def half_interval(values: Sequence[float]) -> float:
    """Half the 95 % interval of a mean; 0 for fewer than :data:`FEWEST` values."""
    if len(values) < FEWEST:
        return 0.0
    found = paired_difference([0.0] * len(values), values)
    return 0.0 if found.high is None else found.high - found.mean


def training_curves(study: Study) -> Section | None:
    panels = [panel for group in unique_cells(study) if (panel := loss_panel(group))]
    more = f" The first {MOST_PANELS} of {len(panels)}." if len(panels) > MOST_PANELS else ""
    return (
        Section(
            name="training",
            title="Losses and penalties over the training",
            text=[f"Mean over the epoch's steps and over seeds ± their standard deviation, by system and stage.{more}"],
            panels=panels[:MOST_PANELS],
        )
        if panels
        else None
    )


def unique_cells(study: Study) -> Iterator[Group]:
    """One group per system, stage and fraction; a joint stage's tasks share theirs."""
    seen = set()
    for group in study.groups:
        key = (group.system, group.stage, group.fraction, group.task if group.kind != "joint" else None)
        if key not in seen:
            seen.add(key)
            yield group


def loss_panel(group: Group) -> Panel | None:
    histories = [cell.result["history"] for cell in group.cells if cell.result.get("history")]
    if not histories or len(histories[0]) < 2:
        return None
    names = list(dict.fromkeys(name for record in histories[0] for name in record["losses"]))
    return Panel(
        title=" · ".join(
            filter(
                None, [group.system, group.stage, (group.kind != "joint" and group.task) or "", group.shown_fraction()]
            )
        ),
        x_label="epoch",
        y_label="loss",
        curves=[loss_curve(name, histories) for name in names],
    )


def loss_curve(name: str, histories: Sequence[Sequence[dict[str, dict[str, float]]]]) -> Curve:
    count = min(len(history) for history in histories)
    values = [[h[epoch]["losses"][name] for h in histories if name in h[epoch]["losses"]] for epoch in range(count)]
    known = [(epoch + 1, each) for epoch, each in enumerate(values) if each]
    return Curve(
        name=name,
        x=[float(epoch) for epoch, _ in known],
        y=[mean(each) for _, each in known],
        spread=[stdev(each) if len(each) > 1 else 0.0 for _, each in known],
        band=True,
    )
