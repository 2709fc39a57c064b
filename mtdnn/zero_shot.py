"""What the encoder knows before any training: the cosine of two texts' mean vectors, as a similarity score."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mtdnn.data.batch import pad_rows
from mtdnn.data.rows import BadRows
from mtdnn.data.sources import Source
from mtdnn.data.tokenize import encode_texts
from mtdnn.data.units import TargetRules, read_units
from mtdnn.encoder import encode
from mtdnn.evaluate import Evaluation
from mtdnn.metrics.base import compute

BATCH = 64


@torch.inference_mode()
def sentence_vectors(encoder: PreTrainedModel, tokenizer: Any, texts: list[str], *, max_length: int) -> Tensor:
    """Mean of the last hidden states over real tokens, of length 1: (len(texts), D)."""
    encoder.eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    vectors: list[Tensor] = [torch.empty(0)] * len(texts)
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        encoded = encode_texts(tokenizer, [(texts[i], None) for i in chosen], max_length=max_length)
        inputs = pad_rows(encoded["input_ids"], [], pad_id=tokenizer.pad_token_id)
        hidden_NTD, mask_NT1 = encode(encoder, inputs), inputs["attention_mask"].unsqueeze(-1)
        mean_ND = (hidden_NTD * mask_NT1).sum(1) / mask_NT1.sum(1)
        for index, vector in zip(chosen, torch.nn.functional.normalize(mean_ND, dim=-1), strict=True):
            vectors[index] = vector
    return torch.stack(vectors)


def cosine_evaluation(
    encoder: PreTrainedModel,
    tokenizer: Any,
    source: Source,
    rules: TargetRules,
    *,
    max_length: int,
    bad_rows: BadRows = "stop",
) -> Evaluation:
    """A pair task's metrics with the cosine as the prediction."""
    units, _ = read_units(source, rules, bad_rows=bad_rows)
    first = sentence_vectors(encoder, tokenizer, [unit.texts[0][0] for unit in units], max_length=max_length)
    second = sentence_vectors(encoder, tokenizer, [str(unit.texts[0][1]) for unit in units], max_length=max_length)
    cosines = (first * second).sum(-1).tolist()
    gold = [unit.targets[0] for unit in units]
    return Evaluation(
        task=source.task.name,
        split=source.split,
        metrics=compute(source.task.metrics, cosines, gold),
        uids=[unit.uid for unit in units],
        predictions=[{"score": cosine} for cosine in cosines],
        decoded=cosines,
        gold=gold,
    )
