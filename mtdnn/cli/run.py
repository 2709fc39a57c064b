"""``mtdnn run``"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtdnn.cli.options import BadRows, DataDir, Overrides, TaskDefs, numbers, task_folder, with_bad_rows

if TYPE_CHECKING:
    from mtdnn.runner import Executor


def run(
    experiment: Annotated[str, typer.Argument(help="An experiment file, or the name of a shipped one.")],
    overrides: Overrides = [],  # noqa: B006 (typer reads it)
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    bad_rows: BadRows = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/<name> by default.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would run; train nothing.")] = False,
    probe: Annotated[bool, typer.Option(help="With --plan: measure a few steps, for the time.")] = True,
    only: Annotated[str | None, typer.Option(help="Cells by pattern, such as 'mtdnn/adapt/*'.")] = None,
    seeds: Annotated[str | None, typer.Option(help="These seeds alone, as 1,2.")] = None,
    fractions: Annotated[str | None, typer.Option(help="These fractions alone, as 0.001,0.01.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells side by side on this machine.")] = 1,
    cluster: Annotated[str | None, typer.Option(help="Run the cells through submitit: slurm, local.")] = None,
    cluster_options: Annotated[
        list[str],
        typer.Option("--cluster-option", help="A parameter of submitit, as timeout_min=240; repeatable."),
    ] = [],  # noqa: B006
    allow: Annotated[
        list[str], typer.Option(help="A key in which work that is there may differ, as train.epochs; repeatable.")
    ] = [],  # noqa: B006
    track: Annotated[
        list[str], typer.Option(help="Also show the training in wandb, mlflow, comet_ml, aim, ...; repeatable.")
    ] = [],  # noqa: B006
) -> None:
    """Train every stage, task, fraction and seed of an experiment that is not done yet."""
    from mtdnn.cli.show import print_plan, print_results
    from mtdnn.cli.terminal import open_log
    from mtdnn.config import find_experiment, load_experiment
    from mtdnn.distributed import joined_ranks
    from mtdnn.errors import ConfigError
    from mtdnn.experiment import Experiment
    from mtdnn.plan import choose
    from mtdnn.tasks import load_tasks

    config = load_experiment(find_experiment(experiment), overrides=with_bad_rows(overrides, bad_rows))
    folder = out or Path("runs", config.name)
    tasks = load_tasks(task_folder(task_defs))
    with joined_ranks() as ranks:
        job = Experiment(config, tasks, out=folder, data_dir=data_dir, ranks=ranks, allowed=allow, trackers=track)
        chosen = choose(
            job.cells,
            only=only,
            seeds=numbers("--seeds", seeds, int),
            fractions=numbers("--fractions", fractions, float),
        )
        if plan:
            print_plan(job, chosen, probe=probe)
            return
        open_log()
        executor = executor_of(jobs, cluster, cluster_options, folder)
        if not ranks.alone and executor is not None:
            raise ConfigError("several processes train each cell together; leave --jobs and --cluster out")
        try:
            job.run(executor=executor, chosen=chosen, threads=threads_of(jobs))
        finally:
            if ranks.first and job.worked_on is not None and (done := job.results()):
                trained = sum(job.result(cell) is not None for cell in job.worked_on)
                print_results(done, folder, trained=trained, of=len(job.worked_on))


def executor_of(jobs: int, cluster: str | None, options: list[str], folder: Path) -> "Executor | None":
    """Where the cells are trained; None for this process."""
    from mtdnn.runner import Cluster, Processes
    from mtdnn.yaml_files import parse_settings

    if cluster is not None:
        given = parse_settings(options, option="--cluster-option", example="timeout_min=240")
        return Cluster(cluster, folder=folder / "cluster", options=given)
    return None if jobs == 1 else Processes(jobs)


def threads_of(jobs: int) -> int | None:
    """This process's threads shared out; torch's own choice where there is nothing to share."""
    import torch

    return None if jobs == 1 else max(1, torch.get_num_threads() // jobs)
