"""Metrics over labelled spans of words."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from mtdnn.metrics.base import METRICS, undefined

Entity = tuple[str, int, int]


def entities(labels: Sequence[str]) -> tuple[Entity, ...]:
    """(type, first word, word after the last) of each entity of a sentence in IOB2, in order.

    As the script conlleval of CoNLL-2000 counts: an ``I-x`` that continues nothing begins an entity.
    """
    return _entities(tuple(labels))


@lru_cache(maxsize=2**16)  # an interval of a metric asks the same sentences hundreds of times
def _entities(labels: tuple[str, ...]) -> tuple[Entity, ...]:
    found: list[Entity] = []
    kind, start = "", 0
    for place, label in enumerate((*labels, "O")):
        prefix, _, name = label.partition("-")
        continues = prefix == "I" and name == kind and bool(kind)
        if kind and not continues:
            found.append((kind, start, place))
        if not continues:
            kind, start = (name, place) if prefix in ("B", "I") else ("", place)
    return tuple(found)


@METRICS.register("span_f1")
def span_f1(predictions: Sequence[Sequence[str]], targets: Sequence[Sequence[str]]) -> float:
    """F1 of whole entities, type and both ends right, over all sentences together (CoNLL-2003), in [0, 1].

    :param predictions: a label per word of each sentence, in IOB2.
    """
    counts: Counter[str] = Counter()
    for labels, right in zip(predictions, targets, strict=True):
        if len(labels) != len(right):
            raise ValueError(f"a sentence has {len(labels)} labels but {len(right)} targets")
        found, wanted = entities(labels), entities(right)
        counts["found"] += len(found)
        counts["wanted"] += len(wanted)
        counts["both"] += len(set(found) & set(wanted))
    if not counts["found"] + counts["wanted"]:
        return undefined("span_f1", "no entity is predicted or present")
    return 2 * counts["both"] / (counts["found"] + counts["wanted"])
