"""What a head is, and the registry of heads.

Shape suffixes: U = units, N = rows, T = tokens, D = hidden width.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from torch import Tensor, nn

from mtdnn.data.batch import Batch
from mtdnn.data.tokenize import Encoded, encode_whole
from mtdnn.data.units import Texts
from mtdnn.divergences import Outputs
from mtdnn.errors import ConfigError
from mtdnn.registry import Registry, build
from mtdnn.tasks import TaskDef


@dataclass(frozen=True)
class StockHead:
    """A head as transformers' sequence classifiers have it: dropout on the pooled vector, one linear layer.

    :param output: the linear layer.
    :param labels: the name of each of its outputs.
    :param problem_type: as in transformers' configuration: what the outputs are, and so what a pipeline makes of them.
    """

    output: nn.Linear
    labels: tuple[str, ...]
    problem_type: Literal["single_label_classification", "multi_label_classification", "regression"]


class Head(nn.Module, ABC):
    """The layer on top of the shared encoder, and all that its kind of task means.

    Its options in YAML are its constructor's keyword arguments; ``hidden_size``, ``label_words``, ``score_range``,
    ``groups`` and ``is_pair`` are given by the task and the encoder to the heads that name them.

    :cvar reads_tokens: ``forward`` takes all last hidden states, (N, T, D), in place of the pooled vectors.
    :cvar token_columns: numbers of each token that :meth:`columns` makes and batches carry as ``tokens_NT``.
    :cvar keeps_texts: batches carry the rows' texts.
    :cvar chooses_rows: training may use only some of a unit's rows, each of which has then one target.
    :cvar not_in_a_graph: why ``forward`` cannot be computed of hidden states and mask alone; empty where it can.
    :cvar hub_task: what model hubs call this kind of task.
    :cvar constant_answer: the most frequent target, or their mean, is an answer that needs no model.
    """

    reads_tokens: ClassVar[bool] = False
    token_columns: ClassVar[tuple[str, ...]] = ()
    keeps_texts: ClassVar[bool] = False
    chooses_rows: ClassVar[bool] = False
    not_in_a_graph: ClassVar[str] = ""
    hub_task: ClassVar[str] = "text-classification"
    constant_answer: ClassVar[bool] = True

    @classmethod
    def read_text(cls, value: Any) -> str:
        """A text of a row; ValueError says what was expected."""
        if not isinstance(value, str):
            raise ValueError(f"expected text, got {value!r:.60}")
        return value

    def parse(self, value: Any) -> float:
        """A row's target as a number; ValueError says what was expected. For heads with one number a row."""
        raise NotImplementedError(f"a row of a {type(self).__name__} has more than one number")

    def parse_targets(self, value: Any, texts: Texts | None) -> list[float]:
        """A row's target in numbers; ValueError says what was expected.

        :param texts: the row's; None where they are faulty, so that only what needs no text is checked.
        """
        return [self.parse(value)]

    def admit(self, targets: Sequence[float]) -> bool:
        """Whether a unit with these targets is kept; ValueError when it is a fault."""
        return True

    def trainable(self, targets: Sequence[float]) -> bool:
        """Whether a unit with these targets can have a gradient; training skips the others."""
        return True

    def keep_rows(self, targets: Sequence[float], *, key: str) -> list[int]:
        """The rows of a unit that training uses; ``key`` seeds any choice."""
        return list(range(len(targets)))

    @property
    def encoding(self) -> Hashable:
        """Heads in which this is equal make the same token ids of the same texts."""
        return "whole"

    def encode(self, tokenizer: Any, texts: Sequence[Texts], *, max_length: int) -> Encoded:
        """The rows of some texts: one each, cut at ``max_length`` tokens."""
        return encode_whole(tokenizer, texts, max_length=max_length)

    def columns(self, encoded: Encoded, texts: Sequence[Texts]) -> dict[str, list[list[int]]]:
        """The ``token_columns`` of each row, -1 at tokens that have none."""
        return {}

    @abstractmethod
    def strata(self, targets: Sequence[Sequence[float]]) -> list[Hashable]:
        """The stratum of each unit, for stratified fractions."""

    @abstractmethod
    def collate(self, targets: Sequence[Sequence[float]]) -> Tensor:
        """The units' targets as one tensor."""

    @abstractmethod
    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits, in the head's own shape, of the pooled vectors (N, D); with ``reads_tokens``, of all states."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The task loss of each unit: (U,)."""

    @abstractmethod
    def outputs(self, logits: Tensor, batch: Batch) -> Outputs:
        """What the logits say about each unit, for divergences."""

    @abstractmethod
    def decode(self, logits: Tensor, batch: Batch) -> list[Any]:
        """A prediction per unit, as the task's metrics take it."""

    @abstractmethod
    def gold(self, targets: Sequence[float], texts: Sequence[Sequence[str | None]] = ()) -> Any:
        """A unit's target, as the task's metrics take it; ``texts`` are its rows', where the head keeps them."""

    @abstractmethod
    def describe(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """A prediction per unit, for people: label words, probabilities, scores."""

    def summary(self, targets: Sequence[float]) -> str:
        """What a split's targets are, in few words: their range and mean."""
        if not targets:
            return UNLABELLED
        return f"{min(targets):g} to {max(targets):g}, mean {np.mean(targets):.2f}"

    def describe_rows(self, logits: Tensor, batch: Batch) -> list[dict[str, Any]]:
        """A prediction per row, for rows that come without their unit."""
        return self.describe(logits, batch)

    def copy_from(self, other: "Head", mapping: Mapping[str, str]) -> None:
        """Start from another task's head; ``mapping`` says which of its labels each of ours starts from."""
        raise ValueError(f"a {type(self).__name__} cannot start from another task's head")

    def as_stock(self) -> StockHead:
        """The same layer in transformers' own classes; ValueError when they have none."""
        raise ValueError(f"transformers' sequence classifiers have no {type(self).__name__}")


UNLABELLED = "unlabelled"
HEADS: Registry[type[Head]] = Registry("head", package="mtdnn.heads")


def build_head(task: TaskDef, *, hidden_size: int = 1, where: str | None = None) -> Head:
    """The head of a task; ConfigError names the faults in its options.

    :param where: where they were given, for error messages.
    """
    return build(
        HEADS,
        {"type": task.kind, **task.head},
        where=where or f"task '{task.name}': head",
        hidden_size=hidden_size,
        label_words=task.label_words,
        score_range=tuple(task.range) if task.range else None,
        groups=task.groups,
        is_pair=task.inputs.text_b is not None,
    )


def copy_head(source_head: Head, head: Head, mapping: Mapping[str, str], *, task: str, source: str) -> None:
    """Start ``task``'s head from ``source``'s; ConfigError when they do not fit."""
    try:
        head.copy_from(source_head, mapping)
    except ValueError as error:
        raise ConfigError(f"head of '{task}' from '{source}': {error}") from error
