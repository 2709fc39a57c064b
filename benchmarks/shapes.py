"""The sizes of encoders and the lengths of rows that benchmarks use, as a model and as a tokenised split."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from transformers import BertConfig

from mtdnn.data.batch import Batch, epoch_batches, make_batch
from mtdnn.data.cache import SplitFacts
from mtdnn.data.tokenize import SCHEMA, TaskSplit
from mtdnn.data.units import Counts
from mtdnn.model import MultiTaskModel, make_config
from mtdnn.tasks import TaskDef, load_tasks

TASK = "everyday_nli"
SHAPES: Mapping[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64},
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
FIRST_ID, SHORTEST = 1000, 5
FACTS = SplitFacts(counts=Counts(), truncated=0, content_hash="")  # of rows that nobody wrote


@dataclass(frozen=True)
class Law:
    """Lengths of rows in tokens: log-normal around ``mean``, at most ``longest``; ``sigma`` is of the logarithm."""

    mean: float
    sigma: float
    longest: int

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        drawn = rng.lognormal(math.log(self.mean) - self.sigma**2 / 2, self.sigma, count)
        lengths: np.ndarray = np.clip(np.rint(drawn), SHORTEST, self.longest).astype(np.int64)
        return lengths


# As performance.md has them: a random padded batch of 32 is 50 % full with SNLI's lengths and 35 % with MNLI's.
LENGTHS = {"snli": Law(mean=25, sigma=0.38, longest=80), "mnli": Law(mean=40, sigma=0.6, longest=256)}


def config_of(shape: str) -> BertConfig:
    sizes: dict[str, Any] = {**SHAPES[shape], "num_labels": 3}
    return BertConfig(**sizes)


def task() -> TaskDef:
    return load_tasks()[TASK]


def model_of(shape: str, tasks: Sequence[TaskDef] | None = None) -> MultiTaskModel:
    """A model of that shape with random weights; the first token is pooled, as in HF's classifier."""
    config = make_config(config_of(shape), tasks or [task()], pool="native", max_length=256)
    model = MultiTaskModel(config)
    model.reset_all(seed=0)
    return model


def split_of(law: Law, num_rows: int, *, name: str = TASK, seed: int = 0) -> TaskSplit:
    """Rows of random tokens, as they would lie in the cache."""
    rng = np.random.default_rng(seed)
    lengths = law.draw(num_rows, rng)
    each, ends = np.arange(num_rows + 1, dtype=np.int32), np.concatenate([[0], lengths.cumsum()]).astype(np.int32)

    def nested(values: np.ndarray, kind: pa.DataType) -> pa.ListArray:
        return pa.ListArray.from_arrays(each, pa.ListArray.from_arrays(ends, pa.array(values, kind)))

    numbers = pa.array(each[:-1]).cast(pa.string())
    columns = {
        "uid": numbers,
        "input_ids": nested(rng.integers(FIRST_ID, 30000, ends[-1]), pa.int32()),
        "token_type_ids": nested(np.zeros(ends[-1], np.int8), pa.int8()),
        "targets": pa.ListArray.from_arrays(each, pa.array(rng.integers(0, 3, num_rows), pa.float64())),
        "pair_keys": pa.ListArray.from_arrays(each, numbers),
        "num_rows": pa.array(np.ones(num_rows), pa.int32()),
        "length": pa.array(lengths, pa.int32()),
    }
    table = datasets.Dataset(pa.table(columns, schema=SCHEMA))
    return TaskSplit(name, "train", table, FACTS)


def batches_of(data: TaskSplit, *, batch_size: int, buckets: bool, count: int) -> list[Batch]:
    """``count`` batches that stand for an epoch's: evenly spaced among them when ordered by size."""
    model = model_of("tiny")
    epoch = epoch_batches(data, batch_size=batch_size, seed="benchmark", buckets=buckets)
    by_size = sorted(
        (units for units in epoch if len(units) == batch_size), key=lambda units: data.lengths[units].max()
    )
    places = [int((place + 0.5) * len(by_size) / count) for place in range(count)]
    return [make_batch(data, by_size[place], model.head(data.task), pad_id=0) for place in places]


def real_tokens(batches: Sequence[Batch]) -> int:
    return sum(int(batch.mask_NT.sum()) for batch in batches)


def fill(batches: Sequence[Batch]) -> float:
    """The share of the batches' places that hold a token."""
    return real_tokens(batches) / sum(batch.mask_NT.numel() for batch in batches)
