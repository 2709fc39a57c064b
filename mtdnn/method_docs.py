"""What ``mtdnn methods`` says of the methods there are: all of it is read from their classes."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtdnn.errors import ConfigError, unknown
from mtdnn.objectives.base import OBJECTIVES
from mtdnn.registry import Registry, options_of
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.samplers.base import SAMPLERS

REGISTRIES: tuple[Registry[Any], ...] = (OBJECTIVES, REGULARIZERS, SAMPLERS)
DEFAULTS = "defaults"
PARAM = re.compile(r"^:param (\w+): ", re.MULTILINE)


@dataclass(frozen=True)
class Method:
    """One registered method, as its class documents it."""

    kind: str
    name: str
    cls: Any

    @property
    def source(self) -> str:
        """The module's docstring: what the method is and the paper, section and equation that it comes from."""
        module = inspect.getdoc(inspect.getmodule(self.cls)) or ""
        return module.split("\n\nShape suffixes")[0]

    @property
    def definition(self) -> str:
        """The class's docstring without its options: what is computed."""
        return PARAM.split(plain(inspect.getdoc(self.cls)))[0].strip()

    @property
    def summary(self) -> str:
        return self.definition.split("\n\n")[0].replace("\n", " ")

    @property
    def option_texts(self) -> dict[str, str]:
        """What each option means, with its unit and range."""
        _, *parts = PARAM.split(plain(inspect.getdoc(self.cls)))
        texts = [" ".join(text.split()) for text in parts[1::2]]
        return dict(zip(parts[::2], texts, strict=True))

    @property
    def options(self) -> dict[str, Any]:
        """Each option with its default; ``required`` where there is none."""
        options = options_of(self.cls).items()
        return {name: "required" if option.default is option.empty else option.default for name, option in options}

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        return getattr(self.cls, "PRESETS", {})

    @property
    def notes(self) -> Mapping[str, str]:
        """How each preset differs from its paper."""
        return getattr(self.cls, "NOTES", {})

    @property
    def cost(self) -> str:
        return getattr(self.cls, "COST", "")

    def values(self, preset: str) -> dict[str, Any]:
        """Every option under a preset; ``defaults`` is the constructor's."""
        return {**self.options, **({} if preset == DEFAULTS else self.presets[preset])}

    def differences(self, first: str, second: str) -> list[tuple[str, Any, Any, str]]:
        """(option, value in the first preset, in the second, meaning) wherever they differ."""
        a, b = self.values(first), self.values(second)
        return [(name, a[name], b[name], self.option_texts.get(name, "")) for name in a if a[name] != b[name]]


def plain(text: str | None) -> str:
    return (text or "").replace("``", "")


def all_methods() -> list[Method]:
    return [Method(r.kind, name, r.get(name, where="methods")) for r in REGISTRIES for name in r.names()]


def find_method(name: str) -> Method:
    """The method called ``name``, of whatever kind; ConfigError with a suggestion."""
    methods = {method.name: method for method in all_methods()}
    if name not in methods:
        raise ConfigError(unknown("method", name, methods))
    return methods[name]


def with_presets(*presets: str) -> list[Method]:
    """The methods that have all of the named presets; ConfigError names what is known."""
    found = [m for m in all_methods() if m.presets and all(p in m.presets or p == DEFAULTS for p in presets)]
    if not found:
        known = dict.fromkeys(preset for method in all_methods() for preset in method.presets)
        missing = [preset for preset in presets if preset not in known and preset != DEFAULTS]
        if missing:
            raise ConfigError(unknown("preset", missing[0], [*known, DEFAULTS]))
        raise ConfigError(
            f"no method has both presets {' and '.join(presets)}; mtdnn methods list shows which has which"
        )
    return found
