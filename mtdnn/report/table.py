"""A table as Markdown, CSV and LaTeX; what comes from data is escaped."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtdnn.errors import ConfigError

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "→": r"$\rightarrow$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]"},  # at the beginning of a row they would be an option of the one before
}
# Punctuation that Markdown reads: anywhere, at the edge of a word, before an entity's name; and what begins a block.
MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
BLOCK = re.compile(r"^(\d*)([#>+-]|(?<=\d)[.)])(?=\s)")
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
        rule = ["---"] * len(self.header)
        head, *body = ([in_markdown(cell) for cell in row] for row in [self.header, *self.rows])
        return "".join(f"| {' | '.join(row)} |\n" for row in [head, rule, *body])

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


def in_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line, in a heading or a cell."""
    line = MARKUP.sub(r"\\\g<0>", " ".join(text.split("\n")))
    return line.replace("<", "&lt;")


def paragraph(text: str) -> str:
    """Text that Markdown shows as it is, as a paragraph: no list, no quotation, no heading."""
    return BLOCK.sub(r"\1\\\2", in_markdown(text))


def in_csv(value: Any) -> Any:
    """Text with an apostrophe before what a spreadsheet would take for a formula; numbers stay as they are."""
    formula = isinstance(value, str) and value.startswith(FORMULA) and not NUMBERS.fullmatch(value)
    return f"'{value}" if formula else value


def _in_latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text.replace("\n", " "))
