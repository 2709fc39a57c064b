"""Where verbs print: the terminal, its log, tables."""

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

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


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))  # noqa: T201 (the verb's output)
