"""``mtdnn adapt``"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtdnn.cli.options import BadRows, DataDir, Overrides, TaskDefs, numbers, task_folder, with_bad_rows

if TYPE_CHECKING:
    from mtdnn.experiment import Experiment

PLAIN, BETTER = "encoder", "checkpoint"


def adapt(
    checkpoint: Annotated[Path, typer.Option("--from", help="A model folder: runs/<name>/.../joint/.../model")],
    task: Annotated[str | None, typer.Option(help="A task; by default the data file's name.")] = None,
    data: Annotated[Path | None, typer.Option(help="Your CSV, TSV, JSON lines or Parquet file.")] = None,
    fractions: Annotated[str, typer.Option(help="Shares of the training rows.")] = "0.03,0.1,0.3,1.0",
    seeds: Annotated[str, typer.Option(help="Seeds; more say more.")] = "1,2,3",
    encoder: Annotated[
        str | None, typer.Option(help="The encoder that the checkpoint began with, to compare with.")
    ] = None,
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    bad_rows: BadRows = None,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="The folder; runs/adapt-<task> by default.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells side by side on this machine.")] = 1,
) -> None:
    """How good a task of yours gets with how many labels, from a checkpoint; and how many labels that saves."""
    from mtdnn.adaptation import adaptations, define
    from mtdnn.cli.run import executor_of, threads_of
    from mtdnn.cli.show import print_adaptation
    from mtdnn.cli.terminal import open_log, tell
    from mtdnn.report.write import write_report
    from mtdnn.tasks import load_tasks

    folder, name, choices = define(task, data, task_folder(task_defs))
    for choice in choices:
        tell(f"- {choice}")
    place = out or Path("runs", f"adapt-{name}")
    open_log()
    done: dict[str, tuple[Experiment, list[dict[str, Any]]]] = {}
    for system, job in adaptations(
        {BETTER: str(checkpoint), **({PLAIN: encoder} if encoder else {})},
        registry=load_tasks(folder),
        task=name,
        fractions=numbers("--fractions", fractions, float),
        seeds=numbers("--seeds", seeds, int),
        overrides=with_bad_rows(overrides, bad_rows),
        out=place,
        data_dir=data_dir,
    ).items():
        executor = executor_of(jobs, None, [], place)
        done[system] = (job, job.run(executor=executor, threads=threads_of(jobs)))
    print_adaptation({system: results for system, (_, results) in done.items()}, task=name)
    written = write_report([job.out for job, _ in reversed(done.values())], place / "report")
    tell(f"wrote {written[0]}")
