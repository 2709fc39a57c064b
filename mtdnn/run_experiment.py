"""``mtdnn run``, said in Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtdnn.config import find_experiment, load_experiment
from mtdnn.experiment import Experiment
from mtdnn.files import write_json_atomically
from mtdnn.report.tables import lines, results_table
from mtdnn.tasks import load_tasks, task_folder


def run(
    experiment: str | Path,
    *,
    settings: Sequence[str] = (),
    task_defs: str | Path | None = None,
    data_dir: str | Path | None = None,
    out: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Train every stage, task, fraction and seed of an experiment that is not done yet, here and one after another.

    :param experiment: an experiment file, or the name of a shipped one.
    :param settings: ``key.key=value``, laid over the file as by ``--set``; ``size=NAME`` picks a size.
    :param task_defs: a folder of task definitions, on top of the shipped ones; by default ``./task_defs``.
    :param data_dir: a folder of data files; selects the tasks' ``files`` layouts.
    :param out: the run's folder; ``runs/<name>`` by default.
    :return: the content of every cell's ``results.json``.
    :raises MtdnnError: as the command line does, with the same messages.
    """
    config = load_experiment(find_experiment(str(experiment)), overrides=settings)
    registry = load_tasks(task_folder(Path(task_defs) if task_defs else None))
    folder = Path(out) if out else Path("runs", config.name)
    job = Experiment(config, registry, out=folder, data_dir=Path(data_dir) if data_dir else None)
    try:
        return job.run()
    finally:
        if job.worked_on is not None and (done := job.results()):
            write_results(folder, done)


def write_results(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Every cell's result as ``results.json``, and all metrics as a table, ``results.md``, in the run's folder."""
    table = results_table(lines(results, all_metrics=True))
    (folder / "results.md").write_text(table.markdown(), encoding="utf-8")
    write_json_atomically(folder / "results.json", list(results))
