"""One task on growing shares of its data, from one or more starts: what ``mtdnn adapt`` runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtdnn.config import load_experiment
from mtdnn.errors import ConfigError
from mtdnn.experiment import Experiment
from mtdnn.model import MultiTaskConfig
from mtdnn.new_task import write_definition
from mtdnn.pretrained import multi_task_folder
from mtdnn.tasks import TaskRegistry, read_task, shipped

OWN_FOLDER = Path("task_defs")


def define(task: str | None, data: Path | None, folder: Path | None) -> tuple[Path | None, str, list[str]]:
    """The folder of definitions, the task's name, and what was guessed of a data file that had no definition yet.

    :raises ConfigError: when neither a task nor a data file is given.
    """
    if task is None and data is None:
        raise ConfigError("say which task: --task NAME, --data FILE, or both")
    name = task or (data.name.split(".")[0] if data else "")
    place = folder or OWN_FOLDER
    if data is None:
        return folder, name, []
    if (place / f"{name}.yaml").is_file():
        check_same_file(place / f"{name}.yaml", data)
        return place, name, []
    path, choices = write_definition(data, name=name, folder=place)
    return place, path.stem, [*choices, f"wrote {path}"]


def check_same_file(definition: Path, data: Path) -> None:
    """ConfigError when the definition is of another file."""
    files = read_task(definition).data.files
    if files is None or (definition.parent / files.path).resolve() != data.resolve():
        raise ConfigError(f"{definition} is there already and is not of {data}; give another --task")


def adaptations(
    starts: Mapping[str, str],
    *,
    registry: TaskRegistry,
    task: str,
    fractions: Sequence[float],
    seeds: Sequence[int],
    overrides: Sequence[str],
    out: Path,
    data_dir: Path | None,
) -> dict[str, Experiment]:
    """An experiment for each start: the shipped ``adapt`` with its encoder, the task, the fractions and the seeds.

    :param starts: encoder paths by name: model folders of ours, hub ids, local folders. All pool as the first does.
    """
    chosen = [
        f"systems.adapt.0.tasks=[{task}]",
        f"systems.adapt.0.fractions={list(fractions)}",
        f"seeds={list(seeds)}",
        *pooling(next(iter(starts.values()))),
    ]
    return {
        name: Experiment(
            load_experiment(
                shipped("experiments") / "adapt.yaml", overrides=[*chosen, f"encoder.path={path}", *overrides]
            ),
            registry,
            out=out / name,
            data_dir=data_dir,
        )
        for name, path in starts.items()
    }


def pooling(path: str) -> list[str]:
    """The setting that pools as a model folder of ours does; none for another path."""
    folder = multi_task_folder(path)
    return [f"encoder.pool={MultiTaskConfig.from_pretrained(folder).pool}"] if folder else []
