"""Label words in data files -> class ids."""

from typing import Any

from mtdnn.errors import unknown


def label_index(value: Any, label_words: tuple[tuple[str, ...], ...]) -> float:
    """The class of a label: a name, an alias, or an integer index; ValueError with a suggestion for anything else."""
    for index, words in enumerate(label_words):
        if str(value) in words:
            return index
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(label_words):
        return value
    raise ValueError(unknown("label", str(value), (word for words in label_words for word in words)))
