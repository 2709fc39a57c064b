"""``mtdnn sweep``"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtdnn.cli.options import DataDir, Overrides, TaskDefs, task_folder

if TYPE_CHECKING:
    from mtdnn.sweep import Sweep

MAX_NOTE = 150  # characters of what went wrong; results.json has all


def sweep(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    space: Annotated[Path, typer.Option(help="The sweep file: which keys, which values.")] = Path("sweep.yaml"),
    trials: Annotated[int | None, typer.Option(help="How many in all; the sweep file's otherwise.")] = None,
    overrides: Overrides = [],  # noqa: B006 (typer reads it)
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="The sweep's folder; runs/<name>-sweep by default.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells of a trial side by side on this machine.")] = 1,
) -> None:
    """Search the values of any keys of an experiment with Optuna, judged by the mean of seeds on validation."""
    from mtdnn.cli.terminal import open_log
    from mtdnn.config import find_experiment, load_experiment
    from mtdnn.errors import ConfigError
    from mtdnn.runner import Here, Processes
    from mtdnn.search_space import load_space
    from mtdnn.sweep import Sweep
    from mtdnn.tasks import load_tasks

    chosen, file = load_space(space)
    if trials is not None:
        if trials < 1:
            raise ConfigError(f"--trials must be at least 1, got {trials}")
        chosen = chosen.model_copy(update={"trials": trials})
    path = find_experiment(experiment)
    folder = out or Path("runs", f"{load_experiment(path, overrides=overrides).name}-sweep")
    open_log()
    search = Sweep(
        path,
        chosen,
        file,
        registry=load_tasks(task_folder(task_defs)),
        out=folder,
        overrides=overrides,
        data_dir=data_dir,
        executor=lambda: Here() if jobs == 1 else Processes(jobs),
    )
    print_trials(search, search.run())


def print_trials(search: "Sweep", found: dict[str, Any]) -> None:
    """The table of trials, the best first, and the best values as options of ``mtdnn run``."""
    from mtdnn.cli.terminal import console, table_of, tell

    keys = list(search.space.space)
    trials = sorted(found["trials"], key=lambda trial: (trial["value"] is None, -(trial["value"] or 0.0)))
    rows = [trial_row(trial, keys) for trial in trials]
    console.print(
        table_of(("trial", "score", *keys, "seeds", "note"), rows, title=f"{search.out}: mean over seeds, x 100")
    )
    settings = " ".join(f"--set {shlex.quote(each)}" for each in found["best"]["overrides"])
    tell(f"best: {settings}")


def trial_row(trial: dict[str, Any], keys: list[str]) -> tuple[Any, ...]:
    values = dict(each.split("=", 1) for each in trial["overrides"])
    score = "" if trial["value"] is None else f"{100 * trial['value']:.2f}"
    seeds = " ".join(f"{100 * value:.1f}" for value in trial["scores"].values())
    note = " ".join((trial["error"] or "").split())[:MAX_NOTE]
    return (trial["number"], score, *(values[key] for key in keys), seeds, note)
