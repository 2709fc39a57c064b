"""What the verbs print."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mtdnn.cli.terminal import console, duration, table_of, tell
from mtdnn.doctor import Diagnosis, total_seconds
from mtdnn.errors import DataError
from mtdnn.experiment import Experiment
from mtdnn.forecast import Forecast, forecast
from mtdnn.label_savings import Curve, curve_of, labels_to_reach, savings
from mtdnn.memory import shown_bytes
from mtdnn.plan import Cell
from mtdnn.report.figures import NO_PLOT, Panel, draw
from mtdnn.report.tables import HEADER, lines, shown_mean
from mtdnn.run_experiment import write_results
from mtdnn.step_profile import MEANING, StepProfile


def print_plan(job: Experiment, chosen: Sequence[Cell], *, probe: bool) -> None:
    """What would be done, how often each task and example would be visited, and how long it may take."""
    to_do = job.ready(chosen)
    found = {each.cell.path: each for each in forecast(job, to_do, probe=probe, told=tell)}
    shown = {cell.path: cell for cell in [*to_do, *chosen]}
    rows = [(*plan_row(job, cell), *forecast_cells(found.get(path))) for path, cell in shown.items()]
    console.print(table_of(("cell", "tasks", "state", "starts from", "steps", "visits", "time"), rows))
    known = [each.seconds for each in found.values() if each.seconds is not None]
    if known:
        tell(f"about {duration(sum(known))} of training and evaluation, one cell after another, by this probe")


def print_diagnoses(job: Experiment, cells: Sequence[Cell], found: Sequence[Diagnosis]) -> None:
    """What the longest batch of each kind of stage took, and how long everything may take."""
    header = ("stage", "longest batch", "peak", "may have", "fits", "s a step", "precision")
    console.print(table_of(header, [diagnosis_row(each) for each in found]))
    free = min(each.findings.free for each in found) if found else 0
    tell(f"device {job.device}, {torch.get_num_threads()} threads, {shown_bytes(free)} free")
    if found and all(each.fits for each in found):
        total = duration(total_seconds(job, cells, found))
        tell(f"everything fits; about {total} of training and evaluation, one cell after another")


def print_profiles(found: Sequence[Diagnosis]) -> None:
    """Where the time of a typical step of each kind of stage went, and how near it came to the machine's products."""
    profiles = {stage_of(each): each.findings.profile for each in found}
    known = {stage: profile for stage, profile in profiles.items() if profile is not None}
    shares = [
        (stage, clock, *(f"{share:.1%}" for share in parts.values()))
        for stage, profile in known.items()
        for clock, parts in profile.shares.items()
    ]
    console.print(table_of(("stage", "time of", *MEANING), shares, title="where the time of a step goes"))
    speeds = [(stage, *speed_cells(profile)) for stage, profile in known.items()]
    header = ("stage", "typical batch", "s a step", "GFLOP a step", "GFLOP/s", "one product's GFLOP/s", "of that")
    console.print(table_of(header, speeds, title="how near that comes to what the machine multiplies"))
    for part, meaning in MEANING.items():
        tell(f"{part}: {meaning}")
    for each in found:
        if each.findings.profile is None:
            tell(f"{stage_of(each)} was not profiled: {each.findings.ending or 'it does not fit'}")


def speed_cells(profile: StepProfile) -> tuple[str, ...]:
    batches = [f"{task}: {rows} x {tokens}" for task, rows, tokens in profile.batches]
    return (
        "\n".join(batches),
        f"{profile.seconds:.3g}",
        f"{profile.flops / 1e9:.3g}",
        f"{profile.rate / 1e9:.3g}",
        f"{profile.machine_rate / 1e9:.3g}",
        f"{profile.rate / profile.machine_rate:.0%}",
    )


def stage_of(each: Diagnosis) -> str:
    """What tells its kind of stage from the others."""
    return str(Path(*each.cell.path.parts[:3]))


def diagnosis_row(each: Diagnosis) -> tuple[str, ...]:
    whole = each.findings.at(each.batch_size)
    return (
        stage_of(each),
        f"{each.task}: {each.rows} x {each.tokens}",
        f"{'' if whole else 'about '}{shown_bytes(each.peak)}",
        shown_bytes(each.findings.limit),
        "yes" if each.fits else "NO",
        f"{whole.seconds:.2f}" if whole else "",
        each.findings.precision,
    )


def plan_row(job: Experiment, cell: Cell) -> tuple[Any, ...]:
    return (cell, ", ".join(cell.tasks), state_of(job, cell), job.upstream(cell) or "the encoder")


def forecast_cells(found: Forecast | None) -> tuple[str, ...]:
    if found is None:
        return ("", "", "")
    time = "" if found.seconds is None else duration(found.seconds)
    return (str(found.steps), "\n".join(map(str, found.visits)), time)


def state_of(job: Experiment, cell: Cell) -> str:
    if job.result(cell):
        return "done"
    owner = job.owner(cell)
    return "to do" if owner is cell else f"same as {owner}"


def print_results(results: Sequence[Mapping[str, Any]], folder: Path, *, trained: int, of: int) -> None:
    """The results table on the terminal, and in the run's folder as Markdown and JSON."""
    table = lines(results)
    console.print(table_of(HEADER, [line.cells() for line in table], title="mean ± sd over n seeds, x 100"))
    write_results(folder, results)
    seconds = sum(result["wall_seconds"] for result in results)
    done = f"{trained} of {of} cells were trained now" if of else "nothing was left to train"
    tell(f"{done}; {seconds:.0f} s of work in all. All metrics: {folder / 'results.md'}")
    tell(f"Tests, tables and figures, {folder / 'report' / 'report.html'}, are written by:")
    console.print(f"  mtdnn report {shlex.quote(str(folder))}", markup=False, highlight=False, soft_wrap=True)


def print_adaptation(
    results: Mapping[str, Sequence[Mapping[str, Any]]], *, task: str, target: float | None = None
) -> None:
    """The learning curve of each start, and the sentence that matters.

    :param results: of each start at least one; the first is compared with the others.
    :param target: the score to be reached, in [-1, 1]; by default one that the curves have, which the sentence states.
    """
    split = next(name for name in ("test", "validation") if name in next(iter(results.values()))[0]["metrics"][task])
    curves = {name: curve_of(found, task=task, split=split) for name, found in results.items()}
    counts = sorted({count for curve in curves.values() for count in curve})
    rows = [
        (count, *(shown_mean(list(curve.get(count, {}).values())) for curve in curves.values())) for count in counts
    ]
    metric = next(iter(next(iter(results.values()))[0]["metrics"][task][split]["values"]))
    console.print(table_of(("labels", *curves), rows, title=f"{task}: {split} {metric} x 100, mean ± sd over seeds"))
    try:
        tell_labels(curves, target)
    except DataError as error:  # of the cells that failed
        tell(str(error))


def tell_labels(curves: Mapping[str, Curve], target: float | None) -> None:
    """How many labels the first start needs, and how many it saves against each other one.

    :raises DataError: when the curves have no seeds in common.
    """
    better, *others = curves
    if not others:
        tell(labels_to_reach(curves[better], target=target).sentence(f"the {better}", own=target is None))
    for plain in others:
        found = savings(curves[better], curves[plain], target=target)
        tell(found.sentence(better=f"the {better}", plain=f"the {plain}"))


def print_figure(numbers: Path, panels: Sequence[Panel]) -> None:
    """Draw the plot beside its numbers, and say which files there are."""
    plots = draw(panels, numbers.with_suffix(""))
    console.print(f"wrote {', '.join(map(str, [numbers, *plots]))}", markup=False, highlight=False, soft_wrap=True)
    if not plots:
        console.print(NO_PLOT, markup=False, highlight=False, soft_wrap=True)
