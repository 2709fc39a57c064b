"""Names in YAML -> classes in Python.

A registry scans its folder, so a new component is one new file; nothing lists the files. Components outside this
package register by the entry-point group ``mtdnn.plugins``, whose modules are imported before the first lookup.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from mtdnn.errors import ConfigError, listed, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """The components of one kind, by the name that YAML uses for them.

    :param kind: what a component is called in messages, e.g. ``"head"``.
    :param package: the package whose modules are imported before the first lookup.
    """

    def __init__(self, kind: str, *, package: str):
        self.kind = kind
        self.package = package
        self._components: dict[str, T] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: make a component known under ``name``."""

        def add(component: T) -> T:
            if name in self._components:
                raise ValueError(f"{self.kind} '{name}' is registered twice: {self._components[name]} and {component}")
            self._components[name] = component
            return component

        return add

    def names(self) -> list[str]:
        self._scan()
        return sorted(self._components)

    def get(self, name: str, *, where: str) -> T:
        """The component called ``name``; :class:`ConfigError` with a suggestion when there is none."""
        self._scan()
        if name not in self._components:
            raise ConfigError(f"{where}: {unknown(self.kind, name, self._components)}")
        return self._components[name]

    def name_of(self, component: T) -> str:
        """The name that YAML has for a component; the class's own for one that is not registered."""
        self._scan()
        named = (name for name, known in self._components.items() if known is component)
        return next(named, getattr(component, "__name__", repr(component)))

    def _scan(self) -> None:
        if self._scanned:
            return
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{self.package}.{module.name}")
        self._scanned = True
        for plugin in entry_points(group="mtdnn.plugins"):
            plugin.load()


def options_of(cls: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword options of a component: its constructor's signature is the schema."""
    return dict(inspect.signature(cls).parameters)


def option_faults(cls: Callable[..., Any], options: Mapping[str, Any], *, name: str, where: str) -> list[str]:
    """What is wrong with ``options`` for ``cls``: unknown names and values of another type."""
    parameters = options_of(cls)
    faults = []
    for option, value in options.items():
        if option not in parameters:
            faults.append(f"{where}: {unknown(f'{name} option', option, parameters)}")
            continue
        try:
            TypeAdapter(parameters[option].annotation).validate_python(value, strict=True)
        except ValidationError as error:
            first, *others = dict.fromkeys(each["msg"] for each in error.errors())
            wanted = " or ".join([first, *(each.removeprefix("Input should be ") for each in others)])
            faults.append(f"{where}.{option}: {wanted}, got {value!r}")
    return faults


def build(registry: Registry[type[T]], options: Mapping[str, Any], *, where: str, **runtime: Any) -> T:
    """Construct the component ``options["type"]`` from its other options, naming every fault at once.

    A ``preset`` is looked up in the class's ``PRESETS`` and laid below the other options.

    :param options: what the YAML says, e.g. ``{"type": "smart", "radius": 1e-5}``.
    :param where: the file and key that the options came from, for error messages.
    :param runtime: values that YAML cannot give, such as ``hidden_size``; the constructor receives those that it names.
    """
    kwargs = dict(options)
    if "type" not in kwargs:
        raise ConfigError(f"{where}: 'type' is missing; one of: {', '.join(registry.names())}")
    name = str(kwargs.pop("type"))
    cls = registry.get(name, where=where)
    kwargs = {**preset_options(cls, kwargs.pop("preset", None), name=name, where=where), **kwargs}
    faults = option_faults(cls, kwargs, name=name, where=where)
    if faults:
        raise ConfigError(listed(faults))
    parameters = options_of(cls)
    try:
        return cls(**kwargs, **{key: value for key, value in runtime.items() if key in parameters})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error


def defaults_of(cls: Callable[..., Any]) -> dict[str, Any]:
    """The values of the options that are not given."""
    options = options_of(cls).items()
    return {name: option.default for name, option in options if option.default is not inspect.Parameter.empty}


def full_options(registry: Registry[type[T]], options: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Each option with the value that :func:`build` gives it: what is said, else the preset's, else the default."""
    given = dict(options)
    name = str(given.pop("type"))
    cls = registry.get(name, where=where)
    preset = preset_options(cls, given.pop("preset", None), name=name, where=where)
    return {**defaults_of(cls), **preset, **given}


def preset_options(cls: Callable[..., Any], preset: str | None, *, name: str, where: str) -> Mapping[str, Any]:
    """The options that a named preset stands for; none for ``None``."""
    if preset is None:
        return {}
    presets: Mapping[str, Mapping[str, Any]] = getattr(cls, "PRESETS", {})
    if preset not in presets:
        raise ConfigError(f"{where}.preset: {unknown(f'{name} preset', preset, presets)}")
    return presets[preset]
