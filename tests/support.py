"""Small tasks, models and batches that the tests share."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from mtdnn.data.batch import Batch, pad_rows
from mtdnn.model import MultiTaskModel, make_config
from mtdnn.tasks import TaskDef

ROOT = Path(__file__).parent.parent
REAL_DATA = ROOT.parent / "shared" / "data"
BASE = {"version": 1, "data": {"files": {"path": "{split}.jsonl"}}, "target": "label"}
PAIR = {"inputs": {"text_a": "a", "text_b": "b"}}

NLI = TaskDef.model_validate(
    {**BASE, **PAIR, "name": "nli", "kind": "classification", "labels": ["no", "maybe", "yes"], "metrics": ["accuracy"]}
)
STS = TaskDef.model_validate(
    {**BASE, **PAIR, "name": "sts", "kind": "regression", "range": [0.0, 5.0], "metrics": ["pearson"]}
)
RANK = TaskDef.model_validate(
    {
        **BASE,
        "name": "rank",
        "kind": "ranking",
        "inputs": {"text_a": "a", "candidates": "b"},
        "groups": {"column": "group"},
        "labels": ["0", "1"],
        "metrics": ["mrr"],
    }
)
TASKS = (NLI, STS, RANK)
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    "roberta": {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16},
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
    "electra": {
        "embedding_size": 4,
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "deberta-v2": {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "type_vocab_size": 0,
    },
    "modernbert": {
        "hidden_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "attention_dropout": 0.1,
        "mlp_dropout": 0.1,
        "embedding_dropout": 0.1,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
    },
}


def toy_model(
    family: str = "bert",
    *,
    tasks: tuple[TaskDef, ...] = TASKS,
    dtype: torch.dtype = torch.float32,
    spread: float = 0.3,
    **changes: Any,
) -> MultiTaskModel:
    """A tiny random model whose weights are large enough that its outputs differ from row to row."""
    config = AutoConfig.for_model(family, vocab_size=20, **{**FAMILIES[family], **changes})
    model = MultiTaskModel(make_config(config, tasks, pool="mean", max_length=16))
    torch.manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            shift = 1.0 if "norm" in name.casefold() and name.endswith("weight") else 0.0
            weight.copy_(shift + spread * torch.randn(weight.shape))
    return model.to(dtype)


def toy_batch(task: str, *, dtype: torch.dtype = torch.float32) -> Batch:
    """Three units with padding: three pairs, or groups of 2, 1 and 3 candidates."""
    rows = [[1, 5, 6, 2], [1, 7, 2], [1, 8, 9, 10, 2], [1, 11, 2], [1, 12, 13, 2], [1, 3, 4, 2]]
    counts = [2, 1, 3] if task == "rank" else [1, 1, 1]
    rows = rows[: sum(counts)]
    types = [[0] * (len(row) - 2) + [1] * 2 for row in rows]
    targets = {
        "nli": torch.tensor([0, 2, 1]),
        "sts": torch.tensor([0.5, 2.0, 5.0], dtype=dtype),
        "rank": torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 1.0], dtype=dtype),
    }
    return Batch(
        task=task,
        uids=("u0", "u1", "u2"),
        inputs_NT=pad_rows(rows, types, pad_id=0),
        num_rows_U=torch.tensor(counts),
        targets=targets[task],
    )
