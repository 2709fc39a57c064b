"""Options that several verbs share."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

Number = TypeVar("Number", int, float)
TaskDefs = Annotated[
    Path | None, typer.Option("--task-defs", help="A folder of your task definitions, on top of the shipped ones.")
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="A folder of data files; selects the tasks' `files` layouts.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", help="key.key=value, laid over the experiment file; size=NAME picks a size.")
]


class Choice(StrEnum):
    """What may become of bad rows."""

    STOP = "stop"
    SKIP = "skip"


class Precision(StrEnum):
    """What an encoder multiplies in."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


PrecisionOption = Annotated[
    Precision, typer.Option(help="bf16, or auto for bf16 where the hardware is faster with it.")
]

BadRows = Annotated[
    Choice | None,
    typer.Option(
        "--bad-rows",
        help="What becomes of bad rows: stop names them all (the default); skip leaves them out, counted.",
    ),
]


def with_bad_rows(overrides: list[str], bad_rows: Choice | None) -> list[str]:
    """The overrides with what ``--bad-rows`` stands for."""
    return overrides if bad_rows is None else [*overrides, f"data.bad_rows={bad_rows.value}"]


def task_folder(given: Path | None) -> Path | None:
    """The folder that was given, or the user's own."""
    from mtdnn import tasks

    return tasks.task_folder(given)


def numbers(option: str, text: str | None, kind: Callable[[str], Number]) -> list[Number]:
    """``1,2`` as numbers; a usage error, as of any other value that an option does not take, says what is none."""
    try:
        return [kind(each) for each in text.split(",")] if text else []
    except ValueError:
        told = f"'{text}': expected numbers with commas between them, for example 1,2"
        raise typer.BadParameter(told, param_hint=f"'{option}'") from None
