"""Pydantic models read from YAML: every fault of a file at once, each with its line, key, value and remedy."""

import re
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from mtdnn.errors import ConfigError, listed, unknown
from mtdnn.yaml_files import KeyPath, YamlFile

M = TypeVar("M", bound=BaseModel)
QUOTED = re.compile("'([^']*)'")


class Strict(BaseModel):
    """Base of all that is read from YAML: immutable, no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


def validate(model: type[M], file: YamlFile, *, data: Any = None) -> M:
    """Build ``model`` from the file's data (or from ``data``, which came from it); all faults in one ConfigError."""
    values = file.data if data is None else data
    if not isinstance(values, dict):
        raise ConfigError(f"{file.path}: expected keys and values, got {type(values).__name__}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(listed(list(dict.fromkeys(_say(model, file, fault) for fault in error.errors())))) from error


def _say(model: type[BaseModel], file: YamlFile, fault: Any) -> str:
    loc: KeyPath = tuple(fault["loc"])
    where = file.where(loc)
    match fault["type"]:
        case "extra_forbidden":
            known = known_keys(model, loc[:-1])
            return f"{where}: {unknown('key', str(loc[-1]), known)}"
        case "missing":
            return f"{file.where(loc[:-1])}: key '{loc[-1]}' is missing"
        case "value_error":
            return f"{where}: {fault['ctx']['error']}"
        case "literal_error":
            return f"{where}: {unknown('value', str(fault['input']), QUOTED.findall(fault['ctx']['expected']))}"
        case "string_type" if isinstance(fault["input"], bool | int | float):
            return f"{where}: expected text, got {fault['input']!r}; put quotes around it"
        case _:
            return f"{where}: {fault['msg']}, got {fault['input']!r}"


def known_keys(model: type[BaseModel], key_path: KeyPath) -> set[str]:
    """The keys that ``model`` allows at ``key_path``."""
    found: list[type[BaseModel]] = [model]
    for part in key_path:
        found = [inner for outer in found for inner in _models_at(outer, part)] or found
    return {field.alias or name for each in found for name, field in each.model_fields.items()}


def _models_at(model: type[BaseModel], part: str | int) -> list[type[BaseModel]]:
    field = next((f for name, f in model.model_fields.items() if part in (name, f.alias)), None)
    return _models_in(field.annotation) if field is not None else []


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
