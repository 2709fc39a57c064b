"""``mtdnn run``"""

from pathlib import Path
from typing import Annotated

import typer

from mtdnn.cli.options import DataDir, Overrides, TaskDefs, task_folder


def run(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    overrides: Overrides = [],  # noqa: B006 (typer reads it)
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<name> by default.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run; train nothing.")] = False,
) -> None:
    """Train every stage, task, fraction and seed of an experiment that is not done yet."""
    from mtdnn.cli.show import open_log, print_plan, print_results
    from mtdnn.config import find_experiment, load_experiment
    from mtdnn.experiment import Experiment
    from mtdnn.tasks import load_tasks

    config = load_experiment(find_experiment(experiment), overrides=overrides)
    folder = out or Path("runs", config.name)
    job = Experiment(config, load_tasks(task_folder(task_defs)), out=folder, data_dir=data_dir)
    if plan:
        print_plan(job)
        return
    open_log()
    pending = len(job.pending())
    results = job.run()
    print_results(results, folder, trained=pending)
