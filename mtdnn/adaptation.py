"""One task on growing shares of its data, from one or more starts: what ``mtdnn adapt`` runs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mtdnn.config import EncoderConfig, load_experiment
from mtdnn.encoder import PACKAGE_PREFIX
from mtdnn.errors import ConfigError, MtdnnError, unknown
from mtdnn.experiment import Experiment
from mtdnn.model import MultiTaskConfig
from mtdnn.new_task import write_definition
from mtdnn.pretrained import multi_task_folder, tokenizer_of, weights_of
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
    return place, path.stem, [*choices, f"wrote {path}; the options above are those of mtdnn tasks new"]


def check_same_file(definition: Path, data: Path) -> None:
    """ConfigError when the definition is of another file."""
    files = read_task(definition).data.files
    if files is None or (definition.parent / files.path).resolve() != data.resolve():
        raise ConfigError(f"{definition} is there already and is not of {data}; give another --task")


def check_there(checkpoint: Path) -> None:
    """That a path which no hub could have names something.

    :raises ConfigError: with the first part of it that is not there.
    """
    is_path = checkpoint.is_absolute() or len(checkpoint.parts) > 2
    if not is_path or str(checkpoint).startswith(PACKAGE_PREFIX) or checkpoint.exists():
        return
    missing = next(each for each in (*reversed(checkpoint.parents), checkpoint) if not each.exists())
    there = sorted(each.name for each in missing.parent.iterdir()) if missing.parent.is_dir() else []
    raise ConfigError(f"--from {checkpoint}: there is no {missing}; {unknown('name', missing.name, there)}")


def plain_start(checkpoint: str) -> tuple[str | None, str]:
    """The encoder that a checkpoint began with, None where it is not known or not here; and in words which, or why not.

    :param checkpoint: a model folder.
    """
    path = began_with(checkpoint)
    if path is None:
        return None, f"nothing to compare with: {checkpoint} does not record what it began with; say it with --encoder"
    chosen = EncoderConfig(path=path)
    try:
        tokenizer_of(chosen)
        weights_of(chosen)
    except MtdnnError:
        told = f"nothing to compare with: {checkpoint} began with {path}, which cannot be loaded; give --encoder"
        return None, told
    return path, f"compared with {path}, which the checkpoint began with; --no-compare leaves that out"


def began_with(checkpoint: str) -> str | None:
    """The encoder that a model folder of ours was trained from, as an experiment's ``encoder.path`` says it.

    The result that a run keeps beside its model says it; without one, the name in the configuration of the encoder,
    which ``tiny`` and imported models do not have.

    :raises EncoderError: when the checkpoint is in a package that is not there.
    """
    folder = multi_task_folder(checkpoint)
    if folder is None:
        return None
    try:
        result = json.loads((folder.parent / "results.json").read_text(encoding="utf-8"))
        return str(result["inputs"]["encoder"]["path"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or not a cell's
        return MultiTaskConfig.from_pretrained(folder).encoder.get("_name_or_path") or None


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
