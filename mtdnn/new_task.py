"""A task definition from a data file: what is not said is guessed, and every guess is told."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from mtdnn.data.formats import READERS, suffix_format
from mtdnn.data.rows import Faults, without_faults
from mtdnn.errors import ConfigError, DataError, unknown
from mtdnn.tasks import NAME_RULE, is_task_name, read_task, shipped

MAX_CLASSES = 50
LABEL_NAMES = ("label", "target", "class", "category", "sentiment", "gold", "score", "rating", "stars", "y")
LOOKED_AT = 5000
ALIKE = 0.8  # of difflib's ratio; above it a label may be another one misspelt
MISSPELT = 5  # where the other is so many times as frequent


@dataclass
class Column:
    """What a column of the file holds: its first values, and its distinct ones (up to as many)."""

    first: list[Any] = field(default_factory=list)
    distinct: Counter[str] = field(default_factory=Counter)
    empty: int = 0

    def add(self, value: Any) -> None:
        if len(self.first) < LOOKED_AT:
            self.first.append(value)
        if value is None or not str(value).strip():
            self.empty += 1
        elif len(self.distinct) < LOOKED_AT or str(value) in self.distinct:
            self.distinct[str(value)] += 1

    def spellings(self) -> list[list[str]]:
        """The distinct values, those that differ in case or outer spaces together, each group's most frequent first."""
        groups: dict[str, list[str]] = defaultdict(list)
        for value, _ in self.distinct.most_common():
            groups[value.strip().casefold()].append(value)
        return [groups[key] for key in sorted(groups)]


@dataclass
class Choices:
    """Columns and kind of a new task, and in words why."""

    columns: dict[str, Column]
    told: list[str] = field(default_factory=list)

    def column(self, option: str, given: str | None, guess: str | None) -> str | None:
        """The column that was given, checked to be there; else the guess."""
        if given is None:
            if guess is not None:
                self.told.append(f"{option}: '{guess}' (guessed; --{option.replace('_', '-')} says otherwise)")
            return guess
        if given not in self.columns:
            raise ConfigError(f"--{option.replace('_', '-')}: {unknown('column', given, self.columns)}")
        return given


def write_definition(
    data: Path,
    *,
    folder: Path,
    name: str | None = None,
    text_a: str | None = None,
    text_b: str | None = None,
    target: str | None = None,
    kind: str | None = None,
    holdout: float = 0.1,
) -> tuple[Path, list[str]]:
    """Write ``folder/<name>.yaml`` for a data file; its path and the guesses that were made.

    :raises ConfigError: when a column cannot be guessed, or the definition is there already.
    """
    called = name or data.name.split(".")[0].replace(" ", "_")
    if not is_task_name(called):
        raise ConfigError(f"--name: {called[:100]!r} {NAME_RULE}")
    path = folder / f"{called}.yaml"
    if path.exists() or (shipped("task_defs") / path.name).exists():
        raise ConfigError(f"{path}: a task called '{path.stem}' is there already; give --name")
    choices = Choices(_columns(data))
    if len(choices.columns) == 1 and ";" in next(iter(choices.columns)):
        raise ConfigError(f"{data} is separated by semicolons; save it with commas, or with tabs as .tsv")
    label = choices.column("target", target, _guess_target(choices.columns))
    if label is None:
        raise ConfigError(f"{data}: which column is the label? --target, one of {', '.join(choices.columns)}")
    texts = _guess_texts(choices.columns, label)
    first = choices.column("text_a", text_a, texts[0] if texts else None)
    if first is None:
        raise ConfigError(f"{data}: which column is the text? --text-a, one of {', '.join(choices.columns)}")
    rest = [column for column in texts if column != first] if text_a is None else []
    second = choices.column("text_b", text_b, rest[0] if rest else None)
    definition = _definition(data, choices, first, second, label, kind, folder, holdout)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
    read_task(path)
    return path, choices.told


def _columns(data: Path) -> dict[str, Column]:
    if not data.is_file():
        raise DataError(f"{data}: no such file")
    faults = Faults()
    columns: dict[str, Column] = {}
    for row in without_faults(READERS[suffix_format(data)](data, faults), faults):
        for column, value in row.values.items():
            columns.setdefault(column, Column()).add(value)
    faults.raise_if_any(str(data))
    if not columns:
        raise DataError(f"{data}: no rows")
    return columns


def _guess_target(columns: dict[str, Column]) -> str | None:
    """A column with a name that labels have; else the one with the fewest distinct values, if few."""
    named = [column for word in LABEL_NAMES for column in columns if column.casefold() == word]
    if named:
        return named[0]
    few = {name: len(column.distinct) for name, column in columns.items() if 2 <= len(column.distinct) <= MAX_CLASSES}
    return min(few, key=lambda name: few[name]) if few else None


def _guess_texts(columns: dict[str, Column], label: str) -> list[str]:
    """Columns whose values are of several words."""

    def is_text(column: Column) -> bool:
        words = [len(value.split()) for value in column.first if isinstance(value, str) and value.strip()]
        return bool(words) and sum(words) / len(words) >= 2.0

    return [name for name, column in columns.items() if name != label and is_text(column)]


def _told_of_labels(spellings: Sequence[Sequence[str]], counts: Counter[str]) -> Iterator[str]:
    """How often each label stands in the file, which spellings count as one, and what may be a misspelt one."""
    rows = {words[0]: sum(counts[word] for word in words) for words in spellings}
    yield f"labels: {', '.join(f'{name} {count}' for name, count in rows.items())}"
    for name, *others in spellings:
        if others:
            yield f"labels: {', '.join(map(repr, others))} counts as {name!r}"
    for name, count in rows.items():
        frequent = [other for other in rows if rows[other] >= MISSPELT * count]
        if near := get_close_matches(name, frequent, n=1, cutoff=ALIKE):
            yield (
                f"labels: '{name}' ({count} of {sum(rows.values())} rows) looks like '{near[0]}' misspelt: mend the "
                f"rows, or write '{near[0]}: [{name}]' in labels for both to count as one"
            )


def _definition(
    data: Path,
    choices: Choices,
    first: str,
    second: str | None,
    label: str,
    kind: str | None,
    folder: Path,
    holdout: float,
) -> dict[str, Any]:
    spellings = choices.columns[label].spellings()
    classes = [words[0] for words in spellings]
    guessed = "regression" if len(classes) > MAX_CLASSES or _fractional(classes) else "classification"
    if kind is None:
        choices.told.append(f"kind: {guessed} ({len(classes)} distinct values of '{label}'; --kind says otherwise)")
    if (kind or guessed) == "classification":
        choices.told += _told_of_labels(spellings, choices.columns[label].distinct)
    for column in filter(None, (first, second, label)):
        if choices.columns[column].empty:
            choices.told.append(
                f"rows with nothing in '{column}': {choices.columns[column].empty}; mtdnn check names them, and "
                "training waits until they are mended or deleted"
            )
    chosen = kind or guessed
    if chosen not in ("classification", "regression"):
        raise ConfigError(f"--kind: {unknown('kind', chosen, ['classification', 'regression'])}")
    choices.told.append(f"splits: {holdout:.0%} of the rows for validation and as many for test, by a hash of the text")
    relative = Path(os.path.relpath(data.resolve(), folder.resolve())).as_posix()
    layout = {"path": relative, "splits": dict.fromkeys(("train", "validation", "test"), "all"), "holdout": holdout}
    metrics = ["pearson", "spearman"] if chosen == "regression" else ["accuracy", "f1_macro"]
    return {
        "version": 1,
        "kind": chosen,
        "description": f"Made from {data.name} by mtdnn tasks new.",
        "data": {"files": layout},
        "inputs": {"text_a": first} | ({"text_b": second} if second else {}),
        "target": label,
        **({"labels": [_label(words) for words in spellings]} if chosen == "classification" else {}),
        "metrics": metrics,
        "head": {"dropout": 0.1},
    }


def _label(words: Sequence[str]) -> str | dict[str, list[str]]:
    """A label, with its other spellings as aliases where it has any."""
    return {words[0]: list(words[1:])} if len(words) > 1 else words[0]


def _fractional(classes: Sequence[str]) -> bool:
    """Whether all values are numbers, and some are not whole."""
    try:
        return any(not float(value).is_integer() for value in classes)
    except ValueError:
        return False
