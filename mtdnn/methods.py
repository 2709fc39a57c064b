"""What ``mtdnn methods`` says of the registered methods: their docstrings, options and presets."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtdnn.errors import ConfigError, unknown
from mtdnn.objectives.base import OBJECTIVES
from mtdnn.registry import Registry, options_of
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.samplers.base import SAMPLERS

REGISTRIES: tuple[Registry[Any], ...] = (OBJECTIVES, REGULARIZERS, SAMPLERS)


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
