"""Which of a run's models answers for a task."""

import json
from collections.abc import Sequence
from pathlib import Path

from mtdnn.errors import ConfigError, DataError, unknown
from mtdnn.runs import FinishedCell, read_run
from mtdnn.tasks import TaskDef

WHOLE = (None, 1.0)  # fractions that are all of the training data


def read_trained(run: Path) -> list[FinishedCell]:
    """Every finished cell that trained a model, those too whose model lies in another cell's folder.

    :raises DataError: when there is none.
    """
    trained = [cell for cell in read_run(run).cells if cell.kind != "cosine"]
    if not trained:
        raise DataError(f"{run}: no trained models there; give the folder that mtdnn run --out wrote")
    return trained


def is_usable(cell: FinishedCell) -> bool:
    """Whether its model was kept and saw all of the training data."""
    return (cell.model / "config.json").is_file() and cell.fraction in WHOLE


def definition(cell: FinishedCell, task: str) -> TaskDef:
    """The task as the cell's model was trained on it."""
    config = json.loads((cell.model / "config.json").read_text(encoding="utf-8"))
    return TaskDef.model_validate(config["tasks"][task])


def select(cells: Sequence[FinishedCell], *, system: str | None, stages: Sequence[str] = ()) -> list[FinishedCell]:
    """The cells of one system and of the named stages, of all when none is named.

    :raises ConfigError: for an unknown name, or when there are several systems and none is named.
    """
    systems = sorted({cell.system for cell in cells})
    if system is None and len(systems) > 1:
        raise ConfigError(f"the run has the systems {', '.join(systems)}; say which with --system")
    if system is not None and system not in systems:
        raise ConfigError(f"--system: {unknown('system', system, systems)}")
    own = [cell for cell in cells if cell.system == (system or systems[0])]
    here = {cell.stage for cell in own}
    strange = [unknown("stage", stage, here) for stage in stages if stage not in here]
    if strange:
        raise ConfigError("\n".join(f"--stage: {each}" for each in strange))
    return [cell for cell in own if not stages or cell.stage in stages]


def choose(cells: Sequence[FinishedCell], task: str, *, seed: int | None = None) -> FinishedCell:
    """The model that was trained on the task alone, else the joint one; models on fractions of the data never count.

    :param seed: of the model, where there are several; a joint stage that was trained once is taken as it is.
    :raises DataError: when there is no model of the task.
    :raises ConfigError: when several would do, saying which option decides.
    """
    able = [cell for cell in cells if task in cell.tasks]
    usable = [cell for cell in able if is_usable(cell)]
    fitting = [cell for cell in usable if cell.kind != "joint"] or usable
    if not fitting:
        where = ", ".join(str(cell.folder) for cell in able[:3])
        hint = f": none on all of the data was kept in {where}; save_model: true keeps a stage's models"
        raise DataError(f"no model of task '{task}'{hint if able else '; no cell trained it'}")
    stages = sorted({cell.stage for cell in fitting})
    if len(stages) > 1:
        raise ConfigError(f"models of the stages {', '.join(stages)}; say with --stage, once for each to use")
    return _of_seed(fitting, seed)


def _of_seed(cells: Sequence[FinishedCell], seed: int | None) -> FinishedCell:
    seeds = sorted({cell.seed for cell in cells})
    once = len(seeds) == 1 and (seed is None or cells[0].kind == "joint")
    chosen = [cell for cell in cells if once or cell.seed == seed]
    if not chosen:
        given = "" if seed is None else f"--seed {seed} is not among them: "
        raise ConfigError(f"{given}models with the seeds {', '.join(map(str, seeds))}; say which with --seed")
    if len(chosen) > 1:
        raise ConfigError(f"models {' and '.join(str(cell.folder) for cell in chosen)}; keep one of the folders")
    return chosen[0]
