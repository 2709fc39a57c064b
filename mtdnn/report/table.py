"""A table as Markdown, CSV and LaTeX; what comes from data is escaped."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtdnn.errors import ConfigError
from mtdnn.markdown import table

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "‖": r"$\Vert$",
    **{sign: f"${sign}$" for sign in "<>|"},  # which the old font encoding prints as other signs
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*"},  # in front of a row they would belong to the one before
    "`": "{`}",  # after ! and ? another sign
}
MINUS = re.compile(r"(?<![\w.\-])-(?=\.?\d)")  # before a number of its own
HYPHENS = re.compile(r"-(?=-)")  # two would be a dash
FORMULA = ("=", "+", "-", "@", "\t", "\r")
NUMBERS = re.compile(r"[-+\d.,%±−() ]*")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells are text; numbers too where it is only written as CSV.

    :param name: of its files.
    :param note: what a reader has to know, one paragraph.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def markdown(self) -> str:
        return table(self.header, self.rows)

    def csv(self) -> str:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([map(in_csv, row) for row in [self.header, *self.rows]])
        return file.getvalue()

    def latex(self) -> str:
        lines = [" & ".join(map(_in_latex, row)) + r" \\" for row in [self.header, *self.rows]]
        head, *body = lines
        columns = "l" * len(self.header)
        return (
            "\n".join(
                [rf"\begin{{tabular}}{{{columns}}}", r"\hline", head, r"\hline", *body, r"\hline", r"\end{tabular}"]
            )
            + "\n"
        )


def write_csv(table: Table, path: Path) -> Path:
    """Write the table; the folder is made.

    :raises ConfigError: when it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(table.csv(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--out: {path} cannot be written: {error.strerror}; give another place") from error
    return path


def in_csv(value: Any) -> Any:
    """Text with an apostrophe before what a spreadsheet would take for a formula; numbers stay as they are."""
    formula = isinstance(value, str) and value.startswith(FORMULA) and not NUMBERS.fullmatch(value)
    return f"'{value}" if formula else value


def _in_latex(text: str) -> str:
    """One line that LaTeX prints as it stands, whatever the font's encoding."""
    line = "".join(LATEX.get(sign, sign) for sign in MINUS.sub("−", " ".join(text.splitlines())))
    return HYPHENS.sub("-{}", line)
