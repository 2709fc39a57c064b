"""Label words in data files -> class ids."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from mtdnn.errors import unknown

COUNTS_SHOWN = 6


class Labelled(Protocol):
    """A head whose linear layer ``output`` has a row a label."""

    label_words: tuple[tuple[str, ...], ...]
    output: nn.Linear


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


@torch.no_grad()
def copy_labels(head: Labelled, source: Labelled, mapping: Mapping[str, str]) -> None:
    """Start each of a head's labels from another head's of the same name, or from the one that ``mapping`` says."""
    for index, words in enumerate(head.label_words):
        other = int(label_index(mapping.get(words[0], words[0]), source.label_words))
        head.output.weight[index] = source.output.weight[other]
        head.output.bias[index] = source.output.bias[other]


def label_counts(targets: Sequence[float], label_words: tuple[tuple[str, ...], ...]) -> str:
    """How often the most frequent labels occur."""
    counts = Counter(targets).most_common(COUNTS_SHOWN)
    return ", ".join(f"{label_words[int(value)][0]} {count}" for value, count in counts)
