"""The methods of a stage, built from its options; and what ``mtdnn methods`` says of those there are."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtdnn.config import StageConfig
from mtdnn.errors import ConfigError, listed, unknown
from mtdnn.objectives.base import OBJECTIVES, Objective
from mtdnn.registry import Registry, build, option_faults, options_of
from mtdnn.regularizers.base import REGULARIZERS, Attached
from mtdnn.samplers.base import SAMPLERS, Sampler

ATTACHMENT = ("tasks", "task_weights", "after_steps")
REGISTRIES: tuple[Registry[Any], ...] = (OBJECTIVES, REGULARIZERS, SAMPLERS)


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


@dataclass(frozen=True)
class Method:
    """One registered method, as its class documents it."""

    kind: str
    name: str
    cls: Any

    @property
    def text(self) -> str:
        """Module and class docstrings: source, what it does, options with units and ranges."""
        module = inspect.getdoc(inspect.getmodule(self.cls)) or ""
        return f"{module}\n\n{inspect.getdoc(self.cls) or ''}"

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.cls) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        return getattr(self.cls, "PRESETS", {})

    def option_rows(self) -> list[tuple[str, ...]]:
        """Each option with its default and what each preset makes of it."""
        options = options_of(self.cls).values()
        return [
            (each.name, str(each.default), *(str(preset.get(each.name, "")) for preset in self.presets.values()))
            for each in options
        ]


def all_methods() -> list[Method]:
    return [Method(r.kind, name, r.get(name, where="methods")) for r in REGISTRIES for name in r.names()]


def find_method(name: str) -> Method:
    """The method called ``name``, of whatever kind; ConfigError with a suggestion."""
    methods = {method.name: method for method in all_methods()}
    if name not in methods:
        raise ConfigError(unknown("method", name, methods))
    return methods[name]
