"""Text from data in Markdown, as it is."""

import re
from collections.abc import Iterable, Sequence

# Punctuation that Markdown reads: anywhere, at the edge of a word, before an entity's name; and what begins a block.
MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
BLOCK = re.compile(r"^(\d*)([#>+-]|(?<=\d)[.)])(?=\s)")


def in_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line, in a heading or a cell."""
    line = MARKUP.sub(r"\\\g<0>", " ".join(text.splitlines()))
    return line.replace("<", "&lt;")


def paragraph(text: str) -> str:
    """Text that Markdown shows as it is, as a paragraph: no list, no quotation, no heading."""
    return BLOCK.sub(r"\1\\\2", in_markdown(text))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as a table; what Markdown would read is escaped."""
    head, *body = ([in_markdown(cell) for cell in row] for row in [header, *rows])
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(header), *body])
