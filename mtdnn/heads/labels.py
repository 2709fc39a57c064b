"""Label words in data files -> class ids."""

from typing import Any

from mtdnn.errors import unknown


def label_index(value: Any, label_words: tuple[tuple[str, ...], ...]) -> float:
    """The class of a label: a name, an alias, or an index; ValueError with a suggestion for else.

    An integer is an index only where no label is written as a number.
    """
    for index, words in enumerate(label_words):
        if str(value) in words:
            return index
    numbers = any(word.lstrip("-").isdigit() for words in label_words for word in words)
    if not numbers and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(label_words):
        return value
    raise ValueError(unknown("label", str(value), (word for words in label_words for word in words)))
