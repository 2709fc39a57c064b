"""The answer that needs no model: the most frequent label, the mean score, the order that candidates come in."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean
from typing import Any

from mtdnn.metrics.base import METRICS, UndefinedMetricWarning


@dataclass(frozen=True)
class Constant:
    """What is answered to every example.

    :param most_frequent: target, as a label's number.
    :param mean: of the targets, as a score.
    """

    most_frequent: float
    mean: float

    @classmethod
    def of(cls, targets: Sequence[float]) -> "Constant":
        """From targets; the smaller one where two are equally frequent."""
        counts = Counter(sorted(targets))
        return cls(most_frequent=counts.most_common(1)[0][0], mean=mean(targets))

    def facts(self) -> dict[str, float]:
        """As JSON."""
        return asdict(self)

    def answer(self, row: Mapping[str, Any]) -> Any:
        """In place of a prediction, of the same shape."""
        if isinstance(row["prediction"], list):
            return [-float(place) for place in range(len(row["prediction"]))]
        return int(self.most_frequent) if "probabilities" in row else self.mean

    def value(self, rows: Sequence[Mapping[str, Any]], metric: str) -> float | None:
        """The metric of these answers over a split's predictions; None where it has no value for constant answers."""
        with warnings.catch_warnings():
            warnings.simplefilter("error", UndefinedMetricWarning)
            try:
                found = METRICS.get(metric, where="metrics")
                return float(found([self.answer(row) for row in rows], [row["target"] for row in rows]))
            except UndefinedMetricWarning:
                return None


def name_of(row: Mapping[str, Any]) -> str:
    """What the constant answer to such examples is called."""
    if isinstance(row["prediction"], list):
        return "candidates as they come"
    return "most frequent label" if "probabilities" in row else "mean score"


def is_number(target: Any) -> bool:
    """Whether a target is a number or, in a ranking group, numbers; labels of words and answers in words are not."""
    return all(isinstance(one, int | float) for one in (target if isinstance(target, list) else [target]))


def flat(targets: Sequence[Any]) -> list[float]:
    """Targets one by one, those of ranking groups too."""
    return [float(one) for each in targets for one in (each if isinstance(each, list) else [each])]
