"""What the perturbing methods tell of themselves while they train, and what it means in words."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch

FLAT_GAIN = 1.05
FLOOR_SHARE = 0.5
LOST_TO_PRECISION = 0.9
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples lie evenly between whole numbers, whatever they are counted by


class Diagnostics:
    """Samples of the methods' diagnostics, their means, and warnings that each are given once.

    :param every: optimizer steps of which one is sampled; None for none.
    :param dtype: of the training pass; a penalty below its resolution beside the loss does nothing.
    """

    def __init__(self, *, every: int | None, dtype: torch.dtype):
        self.every, self.dtype = every, dtype
        self.samples: list[dict[str, Any]] = []
        self.pending: list[dict[str, Any]] = []
        self.warned: list[str] = []

    def due(self, step: int, *, updates: int = 1) -> bool:
        """Whether one of the ``updates`` steps from ``step`` on is sampled.

        The first step is, one of the first ``every``, one of the next, and so on, each time at another place: where
        tasks take turns, every 50th step of six tasks' is always one of the same three's.
        """
        if self.every is None:
            return False
        rounds = {each // self.every for each in range(step, step + updates)}
        sampled = {number * self.every + int((number + 1) * GOLDEN % 1 * self.every) for number in rounds}
        return not {0, *sampled}.isdisjoint(range(step, step + updates))

    def note(self, name: str, found: Mapping[str, float], *, step: int, task: str, loss: float = 0.0) -> None:
        """What the method ``name`` says of a batch; kept by :meth:`commit`.

        :param loss: the task's, which a regularizer's penalty stands beside; an objective tells their ratio itself.
        """
        if found:
            ratio = {"penalty/loss": found["penalty"] / loss} if loss > 0 and "penalty" in found else {}
            finite = {key: value for key, value in {**ratio, **found}.items() if math.isfinite(value)}
            self.pending.append({"regularizer": name, "step": step, "task": task, **finite})

    def commit(self) -> None:
        """The step was made."""
        self.samples += self.pending
        self.discard()

    def discard(self) -> None:
        """Forget the step at hand."""
        self.pending = []

    def means(self, *, since: int = 0) -> dict[str, dict[str, float]]:
        """The mean of each value by regularizer, over the samples from step ``since`` on."""
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for sample in self.samples:
            for key, value in sample.items():
                if isinstance(value, float) and sample["step"] >= since:
                    values[sample["regularizer"]][key].append(value)
        return {name: {key: sum(each) / len(each) for key, each in found.items()} for name, found in values.items()}

    def gains(self) -> dict[str, float]:
        """The last gain of each regularizer, for the progress line."""
        return {f"{s['regularizer']} gain": s["gain"] for s in self.samples[-8:] if "gain" in s}

    def doubts(self, *, since: int) -> list[str]:
        """What the samples from step ``since`` on warn of; not the first step's, whose new heads answer to nothing."""
        means = self.means(since=max(since, 1))
        return [text for name, found in means.items() for text in self._texts(name, found)]

    def unsaid(self, texts: Sequence[str]) -> list[str]:
        """Those of ``texts`` whose part before the colon was not said before; they count as said."""
        said = {text.partition(":")[0] for text in self.warned}
        new = [text for text in texts if text.partition(":")[0] not in said]
        self.warned += new
        return new

    def _texts(self, name: str, means: Mapping[str, float]) -> list[str]:
        texts = []
        resolution = torch.finfo(self.dtype).eps
        precision = str(self.dtype).removeprefix("torch.")
        ratio, penalty = means.get("penalty/loss"), means.get("penalty", 0.0)
        if ratio is not None and ratio < resolution:
            texts.append(
                f"{name} does nothing measurable: its penalty is {ratio:.1g} of the loss, below the resolution of "
                f"{precision} ({resolution:.1g})"
            )
        if "gain" in means and means["gain"] < FLAT_GAIN:
            texts.append(
                f"{name}'s ascent adds nothing: the penalty is {means['gain']:.2f} x that of a random change of the "
                "same size"
            )
        if means.get("of_fp32", 1.0) < LOST_TO_PRECISION:
            texts.append(
                f"{name}'s ascent loses its way in {precision}: it comes {means['of_fp32']:.2f} x as high as in "
                "float32; say ascent_precision: fp32, or take a larger radius"
            )
        if penalty > 0 and means.get("dropout_floor", 0.0) > FLOOR_SHARE * penalty:
            texts.append(
                f"{name}'s penalty is mostly dropout: {means['dropout_floor']:.2g} of {penalty:.2g} is there without "
                "any change"
            )
        return texts

    def state(self) -> dict[str, Any]:
        return {"samples": self.samples, "warned": self.warned}

    def take_up(self, state: Mapping[str, Any]) -> None:
        self.samples, self.warned = list(state["samples"]), list(state["warned"])
