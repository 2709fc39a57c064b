"""What a sweep tries: the file with its keys and their values."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from mtdnn.config import Count, Name
from mtdnn.schema import Strict, validate
from mtdnn.yaml_files import YamlFile, load_yaml


class Span(Strict):
    """The values of one key: a range, or a list.

    :param low: smallest value; where both ends are whole numbers, so are the values.
    :param high: largest value.
    :param log: drawn evenly in the logarithm; the range is then above 0.
    :param values: any values that the key may have, at least one.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    values: Annotated[list[Any], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "Span":
        if (self.values is None) == (self.low is None or self.high is None):
            raise ValueError("give low and high, or values")
        if self.low is None or self.high is None:
            return self
        if not (self.low < self.high and math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a range above 0, got {self.low}")
        return self

    @property
    def texts(self) -> list[str]:
        """The listed values, or the ends of the range, as ``--set`` takes them."""
        return [as_yaml(value) for value in (self.values or [self.low, self.high])]


class SearchSpace(Strict):
    """One sweep file.

    :param space: by key, as ``--set`` names it, what it may be.
    :param trials: how many in all.
    :param seed: of what is drawn.
    :param system: whose results are judged; needed where the experiment has several.
    :param stage: of that system, by default its last.
    """

    space: Annotated[dict[str, Span], Field(min_length=1)]
    trials: Count = 20
    seed: int = 1
    system: Name | None = None
    stage: Name | None = None


def load_space(path: Path) -> tuple[SearchSpace, YamlFile]:
    """Read a sweep file; ConfigError with every fault and its line."""
    file = load_yaml(path)
    return validate(SearchSpace, file), file


def overrides_of(params: Mapping[str, Any]) -> list[str]:
    """Chosen values as ``--set`` takes them: ``key=value``."""
    texts = {key: value if isinstance(value, str) else as_yaml(value) for key, value in params.items()}
    return [f"{key}={text}" for key, text in texts.items()]


def as_yaml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
