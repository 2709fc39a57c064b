"""``mtdnn adapt``"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtdnn.cli.options import BadRows, DataDir, Overrides, TaskDefs, numbers, task_folder, with_bad_rows

if TYPE_CHECKING:
    from mtdnn.errors import MtdnnError
    from mtdnn.experiment import Experiment

PLAIN, BETTER = "encoder", "checkpoint"


def adapt(
    checkpoint: Annotated[Path, typer.Option("--from", help="A model folder: runs/<name>/.../joint/.../model")],
    task: Annotated[str | None, typer.Option(help="A task; by default the data file's name.")] = None,
    data: Annotated[Path | None, typer.Option(help="Your CSV, TSV, JSON lines or Parquet file.")] = None,
    fractions: Annotated[str, typer.Option(help="Shares of the training rows.")] = "0.03,0.1,0.3,1.0",
    seeds: Annotated[str, typer.Option(help="Seeds; more say more.")] = "1,2,3",
    score: Annotated[
        float | None,
        typer.Option(
            help="The score to be reached, times 100 as in the table; by default what the encoder reaches with all "
            "labels, or where it is left out one point less than what the checkpoint does."
        ),
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="The encoder to compare with; by default the one that the checkpoint began with.")
    ] = None,
    compare: Annotated[bool, typer.Option(help="Train from that encoder too, for the labels that are saved.")] = True,
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    bad_rows: BadRows = None,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="The folder; runs/adapt-<task> by default.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells side by side on this machine.")] = 1,
) -> None:
    """How good a task of yours gets with how many labels, from a checkpoint; and how many labels that saves."""
    from mtdnn.adaptation import adaptations, check_there, define
    from mtdnn.cli.show import print_adaptation
    from mtdnn.cli.terminal import open_log, tell
    from mtdnn.errors import RunError, listed
    from mtdnn.report.write import write_report
    from mtdnn.tasks import load_tasks

    target = target_of(score)
    check_there(checkpoint)
    folder, name, choices = define(task, data, task_folder(task_defs))
    for choice in choices:
        tell(f"- {choice}")
    place = out or Path("runs", f"adapt-{name}")
    open_log()
    starts = adaptations(
        {BETTER: str(checkpoint), **plain_of(str(checkpoint), encoder, compare=compare)},
        registry=load_tasks(folder),
        task=name,
        fractions=numbers("--fractions", fractions, float),
        seeds=numbers("--seeds", seeds, int),
        overrides=with_bad_rows(overrides, bad_rows),
        out=place,
        data_dir=data_dir,
    )
    failed = run_all(starts, jobs, place)
    done = {system: found for system, job in starts.items() if (found := job.results())}
    if done:
        print_adaptation(done, task=name, target=target)
        written = write_report([starts[system].out for system in reversed(done)], place / "report")
        tell(f"wrote {written[0]}")
    if failed:
        raise RunError(listed([f"{system}: {error}" for system, error in failed.items()]), failed.values())


def target_of(score: float | None) -> float | None:
    """What ``--score`` stands for, in [-1, 1].

    :raises ConfigError: when it is no score times 100.
    """
    from mtdnn.errors import ConfigError

    if score is None:
        return None
    if not 1 < score <= 100:
        hint = f"; say {100 * score:g}" if 0 < score <= 1 else ""
        raise ConfigError(f"--score {score:g}: it is a score times 100, above 1 and at most 100{hint}")
    return score / 100


def plain_of(checkpoint: str, encoder: str | None, *, compare: bool) -> dict[str, str]:
    """The start to compare with, by name: the one that is given, else what the checkpoint began with, where known.

    :raises ConfigError: when one is given and is to be left out.
    """
    from mtdnn.adaptation import plain_start
    from mtdnn.cli.terminal import tell
    from mtdnn.errors import ConfigError

    if encoder is not None:
        if not compare:
            raise ConfigError("--encoder is what to compare with; leave it or --no-compare out")
        return {PLAIN: encoder}
    if not compare:
        return {}
    found, told = plain_start(checkpoint)
    tell(told)
    return {PLAIN: found} if found else {}


def run_all(starts: "Mapping[str, Experiment]", jobs: int, place: Path) -> "dict[str, MtdnnError]":
    """Train from every start, whatever becomes of the others; what went wrong, by start.

    :raises MtdnnError: before anything is trained, when a start cannot be had or the data or settings are wrong.
    """
    from mtdnn.cli.run import executor_of, threads_of
    from mtdnn.errors import MtdnnError

    for job in starts.values():
        job.ready()
    failed = {}
    for system, job in starts.items():
        executor = executor_of(jobs, None, [], place)
        try:
            job.run(executor=executor, threads=threads_of(jobs))
        except MtdnnError as error:
            failed[system] = error
    return failed
