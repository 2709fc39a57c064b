"""Metrics over answers in words, as the script of SQuAD 1.1 defines them.

Rajpurkar et al., 2016, "SQuAD", section 6.1. https://arxiv.org/abs/1606.05250
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from mtdnn.metrics.base import METRICS, undefined

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
REMEMBERED = 2**16  # an interval of a metric asks the same answers hundreds of times


def normalized(answer: str) -> str:
    """Lower case, without ASCII punctuation, without articles, one space between words."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


@lru_cache(maxsize=REMEMBERED)
def same_answer(prediction: str, target: str) -> float:
    """1 where two answers are the same once normalised, else 0."""
    return float(normalized(prediction) == normalized(target))


@lru_cache(maxsize=REMEMBERED)
def word_f1(prediction: str, target: str) -> float:
    """F1 of the words that two answers share, as often as both have them; 0 where they share none."""
    found, wanted = normalized(prediction).split(), normalized(target).split()
    shared = (Counter(found) & Counter(wanted)).total()
    return 2 * shared / (len(found) + len(wanted)) if shared else 0.0


def mean_of_best(
    name: str, score: Callable[[str, str], float], predictions: Sequence[str], targets: Sequence[Sequence[str]]
) -> float:
    """The mean over questions of the best score that any of the question's answers gives."""
    if not len(predictions):  # an array where they are resampled
        return undefined(name, "there is no question")
    pairs = zip(predictions, targets, strict=True)
    return float(np.mean([max(score(prediction, target) for target in right) for prediction, right in pairs]))


@METRICS.register("exact_match")
def exact_match(predictions: Sequence[str], targets: Sequence[Sequence[str]]) -> float:
    """Share of questions whose answer is one of the right ones, normalised, in [0, 1] (the script prints it x 100)."""
    return mean_of_best("exact_match", same_answer, predictions, targets)


@METRICS.register("squad_f1")
def squad_f1(predictions: Sequence[str], targets: Sequence[Sequence[str]]) -> float:
    """Mean F1 of the words of the answer and of the right one nearest to it, in [0, 1] (the script prints it x 100)."""
    return mean_of_best("squad_f1", word_f1, predictions, targets)
