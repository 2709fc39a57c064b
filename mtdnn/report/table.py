"""A table as Markdown, CSV and LaTeX; what comes from data is escaped."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "→": r"$\rightarrow$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Cells are text.

    :param name: of its files.
    :param note: what a reader has to know, one paragraph.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        rows = [self.header, ["---"] * len(self.header), *self.rows]
        lines = ["| " + " | ".join(_in_markdown(cell) for cell in row) + " |" for row in rows]
        return "\n".join(lines) + "\n"

    def csv(self) -> str:
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.header, *self.rows])
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


def _in_markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _in_latex(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text.replace("\n", " "))
