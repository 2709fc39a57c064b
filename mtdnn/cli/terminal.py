"""Where verbs print: the terminal, its log, tables."""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import UnsupportedOperation
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from mtdnn.files import writing

console = Console(width=None if sys.stdout.isatty() else 150)


def open_log() -> None:
    """Progress messages of the package on the terminal."""
    from transformers.utils import logging as hf_logging

    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("mtdnn").setLevel(logging.INFO)
    warnings.showwarning = log_warning


def log_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning's text, without the line of code that gave it."""
    logging.getLogger("mtdnn").warning("%s", message)


def table_of(header: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> Table:
    """A rich table; cells are text, never markup."""
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    return table


def duration(seconds: float) -> str:
    """In the unit that reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def tell(text: str) -> None:
    console.print(text, markup=False, highlight=False)


def print_lines(lines: Iterable[str]) -> None:
    """Lines with their ends to standard output, each as soon as it is there; StorageError when it takes no more."""
    with writing(Path("standard output")):
        try:
            for line in lines:
                sys.stdout.write(line)
                sys.stdout.flush()
        except OSError:
            with suppress(UnsupportedOperation):  # else Python's last flush may fail too, with status 120
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise
