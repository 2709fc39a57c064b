"""``mtdnn doctor``"""

from pathlib import Path
from typing import Annotated

import typer

from mtdnn.cli.options import DataDir, Overrides, TaskDefs, task_folder


def doctor(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    overrides: Overrides = [],  # noqa: B006 (typer reads it)
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    only: Annotated[str | None, typer.Option(help="Cells by pattern, such as 'mtdnn/adapt/*'.")] = None,
    memory_limit: Annotated[
        str | None, typer.Option(help="What a run may have, such as 2GB; nearly all that is free by default.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Also tell where the time of a step goes.")] = False,
) -> None:
    """Measure whether an experiment fits into memory, on the longest batch of each stage; say what would fit.

    Ends with 0 when all fits, and with 9 when something does not.
    """
    from mtdnn.cli.show import print_diagnoses, print_profiles
    from mtdnn.cli.terminal import open_log, tell
    from mtdnn.config import find_experiment, load_experiment
    from mtdnn.doctor import examine, require_fit
    from mtdnn.experiment import Experiment
    from mtdnn.memory import parse_bytes
    from mtdnn.plan import choose
    from mtdnn.tasks import load_tasks

    limit = parse_bytes(memory_limit, option="--memory-limit") if memory_limit else None
    config = load_experiment(find_experiment(experiment), overrides=overrides)
    job = Experiment(config, load_tasks(task_folder(task_defs)), out=Path("runs", config.name), data_dir=data_dir)
    open_log()
    job.check()
    chosen = [cell for cell in choose(job.cells, only=only) if job.owner(cell) is cell]
    found = list(examine(job, chosen, limit=limit, profile=profile, told=tell))
    print_diagnoses(job, chosen, found)
    if profile:
        print_profiles(found)
    require_fit(found)
