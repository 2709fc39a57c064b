"""The methods of a stage, built from its options; and what ``mtdnn methods`` says of those there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtdnn.config import StageConfig
from mtdnn.errors import ConfigError, listed, unknown
from mtdnn.objectives.base import OBJECTIVES, Objective
from mtdnn.registry import build, full_options, option_faults
from mtdnn.regularizers.base import REGULARIZERS, Attached
from mtdnn.samplers.base import SAMPLERS, Sampler

ATTACHMENT = ("tasks", "task_weights", "after_steps")


@dataclass(frozen=True)
class Methods:
    """A stage's components, built from their options."""

    objective: Objective
    regularizers: dict[str, Attached]
    sampler: Sampler


def build_methods(stage: StageConfig, *, where: str) -> Methods:
    """The components that a stage names; ConfigError with every fault in them."""
    faults: list[str] = []

    def made(registry: Any, options: Mapping[str, Any], key: str) -> Any:
        try:
            return build(registry, options, where=f"{where}.{key}")
        except ConfigError as error:
            faults.append(str(error))

    regularizers: dict[str, Attached] = {}
    for index, options in enumerate(stage.regularizers):
        name, key = str(options.get("type", index)), f"regularizers[{index}]"
        if name in regularizers:
            faults.append(f"{where}.{key}: '{name}' stands twice")
        own = {option: value for option, value in options.items() if option not in ATTACHMENT}
        attachment = {option: value for option, value in options.items() if option in ATTACHMENT}
        faults += attachment_faults(attachment, stage.tasks, where=f"{where}.{key}")
        regularizers[name] = Attached(regularizer=made(REGULARIZERS, own, key), **attachment)
    methods = Methods(
        objective=made(OBJECTIVES, stage.objective, "objective"),
        regularizers=regularizers,
        sampler=made(SAMPLERS, stage.sampler, "sampler"),
    )
    if methods.objective is not None and methods.objective.unattachable and regularizers:
        faults.append(
            f"{where}: {', '.join(regularizers)} cannot be combined with the objective {stage.objective['type']}: "
            f"{methods.objective.unattachable}"
        )
    if faults:
        raise ConfigError(listed(faults))
    return methods


def full_methods(stage: StageConfig, *, where: str) -> dict[str, Any]:
    """Every option of the components that a stage names, as :func:`build_methods` has them built."""
    regularizers = {
        str(options["type"]): full_options(
            REGULARIZERS, {name: value for name, value in options.items() if name not in ATTACHMENT}, where=where
        )
        for options in stage.regularizers
    }
    return {
        "objective": full_options(OBJECTIVES, stage.objective, where=where),
        "regularizers": regularizers,
        "sampler": full_options(SAMPLERS, stage.sampler, where=where),
    }


def attachment_faults(options: Mapping[str, Any], tasks: Sequence[str], *, where: str) -> list[str]:
    """What is wrong with the options that every regularizer has."""
    faults = option_faults(Attached, options, name="regularizer", where=where)
    if faults:
        return faults
    named = [*(options.get("tasks") or []), *options.get("task_weights", {})]
    faults += [f"{where}: {unknown('task of this stage', task, tasks)}" for task in named if task not in tasks]
    if options.get("after_steps", 0) < 0 or min(options.get("task_weights", {}).values(), default=0.0) < 0:
        faults.append(f"{where}: after_steps and task_weights must be at least 0")
    return faults
