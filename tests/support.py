"""Small tasks, models and batches that the tests share."""

import itertools
import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoConfig

from mtdnn.data.batch import Batch, pad_columns, pad_rows
from mtdnn.encoder import Pool
from mtdnn.model import MultiTaskModel, make_config
from mtdnn.tasks import TaskDef
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer

ROOT = Path(__file__).parent.parent
MTDNN = [sys.executable, "-c", "from mtdnn.cli.main import main; main()"]  # the command line as its own process


def own_process(*, root: Path = ROOT) -> dict[str, str]:
    """Environment of a process that imports the package from ``root`` and leaves the machine's other core alone."""
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}  # what threads leave behind in arenas of their own varies by megabytes
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
TAG = TaskDef.model_validate(
    {
        **BASE,
        "name": "tag",
        "kind": "tagging",
        "inputs": {"text_a": "a"},
        "labels": ["O", "B-X", "I-X"],
        "metrics": ["span_f1"],
    }
)
READ = TaskDef.model_validate({**BASE, **PAIR, "name": "read", "kind": "span", "metrics": ["squad_f1", "exact_match"]})
SAN = NLI.model_copy(update={"name": "san", "head": {"type": "san", "steps": 3}})
TOKEN_TASKS = (TAG, READ, SAN)  # whose heads read tokens
SIZES = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": SIZES,
    "xlm-roberta": SIZES,
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 16},
    "electra": {**SIZES, "embedding_size": 4},
    "albert": {**SIZES, "embedding_size": 4, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
    "mpnet": SIZES,
    "deberta-v2": {
        **SIZES,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 4,
        "type_vocab_size": 0,
    },
    "modernbert": {
        **SIZES,
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
LAYERED = [family for family in FAMILIES if family != "albert"]  # whose one layer is run again and again


def toy_model(
    family: str = "bert",
    *,
    tasks: tuple[TaskDef, ...] = TASKS,
    dtype: torch.dtype = torch.float32,
    spread: float = 0.3,
    pool: Pool = "mean",
    **changes: Any,
) -> MultiTaskModel:
    """A tiny random model whose weights are large enough that its outputs differ from row to row."""
    config = AutoConfig.for_model(family, **{"vocab_size": 20, **FAMILIES[family], **changes})
    model = MultiTaskModel(make_config(config, tasks, pool=pool, max_length=16))
    torch.manual_seed(7)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            shift = 1.0 if "norm" in name.casefold() and name.endswith("weight") else 0.0
            weight.copy_(shift + spread * torch.randn(weight.shape))
    return model.to(dtype)


# What the heads of TOKEN_TASKS know of each token: the word whose first piece it is; its first character and the one
# after it; which of both texts it is of.
TOY_TOKENS = {
    "tag": {"word": [[-1, 0, 1, -1], [-1, 0, -1], [-1, 0, -1, 1, -1]]},
    "read": {
        "start": [[-1, 0, 4, -1], [-1, 8, -1], [-1, 0, 3, 6, -1], [-1, 0, -1], [-1, 2, 4, -1], [-1, 6, 8, -1]],
        "end": [[-1, 3, 7, -1], [-1, 11, -1], [-1, 2, 5, 8, -1], [-1, 1, -1], [-1, 3, 5, -1], [-1, 7, 9, -1]],
    },
    "san": {"text": [[-1, 0, 1, -1], [-1, 1, 0], [-1, 0, 0, 1, -1]]},
}
TOY_TEXTS = {
    "tag": [[("red cat", None)], [("sees", None)], [("birds fly high", None)]],
    "read": [[("what", "red cat sat")], [("what", "ab cd ef")], [("what", "a b c d e")]],
}


def toy_batch(task: str, *, dtype: torch.dtype = torch.float32) -> Batch:
    """Three units with padding: three pairs or sentences, or 2, 1 and 3 candidates or windows."""
    rows = [[1, 5, 6, 2], [1, 7, 2], [1, 8, 9, 10, 2], [1, 11, 2], [1, 12, 13, 2], [1, 3, 4, 2]]
    counts = [2, 1, 3] if task in ("rank", "read") else [1, 1, 1]
    rows = rows[: sum(counts)]
    types = [[0] * (len(row) - 2) + [1] * 2 for row in rows]
    targets = {
        "nli": torch.tensor([0, 2, 1]),
        "sts": torch.tensor([0.5, 2.0, 5.0], dtype=dtype),
        "rank": torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 1.0], dtype=dtype),
        "tag": torch.tensor([[0, 1, -1], [2, -1, -1], [1, 2, 0]]),
        "read": torch.tensor([[[4, 7]], [[0, 5]], [[4, 5]]]),
        "san": torch.tensor([0, 2, 1]),
    }
    return Batch(
        task=task,
        uids=("u0", "u1", "u2"),
        inputs_NT=pad_rows(rows, types, pad_id=0),
        num_rows_U=torch.tensor(counts),
        targets=targets[task],
        tokens_NT=pad_columns(TOY_TOKENS.get(task, {})),
        texts=TOY_TEXTS.get(task, ()),
    )


WORDS = ["red", "blue", "green", "cat", "dog", "bird", "sees", "likes", "eats", "big", "small", "old"]


def write_toy_data(folder: Path, *, rows: int = 48) -> None:
    """Three learnable tasks as JSON lines, and their definitions."""
    rng = random.Random(0)
    for split, count in (("train", rows), ("validation", 16), ("test", 16)):
        nli, sts, rank = [], [], []
        for number in range(count):
            first, second = rng.sample(WORDS, 2)
            label = rng.choice(["no", "maybe", "yes"])
            shown = {"no": second, "maybe": f"{first} {second}", "yes": first}[label]
            tag = f"{split}{number}"
            nli.append({"uid": tag, "a": f"{first} {tag}", "b": shown, "label": label})
            score = rng.choice([0, 2.5, 5.0])
            sts.append({"uid": tag, "a": f"{first} {tag}", "b": f"{first if score else second} x", "label": score})
            right = rng.randrange(3)
            for place in range(3):
                text = f"{first if place == right else second} {place}"
                target = str(int(place == right))
                rank.append(
                    {"uid": f"{tag}-{place}", "group": number, "a": f"{first} {tag}", "b": text, "label": target}
                )
        for name, content in (("nli", nli), ("sts", sts), ("rank", rank)):
            (folder / f"{name}-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    for task in TASKS:
        layout = {"files": {"path": f"{task.name}-{{split}}.jsonl", "uid": "uid"}}
        content = {**task.model_dump(mode="json", exclude={"name", "folder"}, exclude_none=True), "data": layout}
        (folder / f"{task.name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


EXPERIMENT = """
name: toy
encoder: {path: tiny, pool: mean, max_length: 32}
seeds: [1, 2]
train: {epochs: 2, batch_size: 8, learning_rate: 1e-3}
stages:
  joint:
    kind: joint
    tasks: [nli, sts, rank]
    seeds: [1]
    regularizers: [{type: smart, preset: default}, {type: bregman, momentum: 0.9}]
  adapt:
    kind: adapt
    from: joint
    tasks: [nli]
    fractions: [0.25, 1.0]
    few_shot: {up_to: 0.25, train: {batch_size: 4, min_updates: 6, select: last}}
systems:
  mtdnn: [joint, {name: finetune, kind: finetune, from: joint, tasks: [sts], train: {patience: 1}}, adapt]
  single: [{name: finetune, kind: finetune, tasks: [sts]}]
"""


def save_tiny(folder: Path, tasks: Sequence[TaskDef] = (), *, seed: int = 3, pool: Pool = "native") -> MultiTaskModel:
    """A model folder with random weights; the model."""
    model = tiny_model(tasks, seed=seed, pool=pool)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return model


def write_toy_experiment(folder: Path, *, text: str = EXPERIMENT, **data: Any) -> Path:
    """The toy data, tasks and an experiment over them; the experiment's path."""
    (folder / "tasks").mkdir(parents=True)
    write_toy_data(folder / "tasks", **data)
    path = folder / "toy.yaml"
    path.write_text(text)
    return path


def pairwise(options: dict[str, list[Any]], *, seed: int = 0) -> list[dict[str, Any]]:
    """Few combinations in which every two values of two options meet (greedy, over random candidates)."""
    names, rng = list(options), random.Random(seed)
    open_pairs = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in options[a] for y in options[b]}
    chosen = []
    while open_pairs:
        (a, x), (b, y) = min(open_pairs, key=str)
        candidates = [{**{n: rng.choice(options[n]) for n in names}, a: x, b: y} for _ in range(60)]
        covered = [{pair for pair in open_pairs if all(c[n] == v for n, v in pair)} for c in candidates]
        best = max(range(60), key=lambda i: len(covered[i]))
        chosen.append(candidates[best])
        open_pairs -= covered[best]
    return chosen


def untimed(results: Any) -> Any:
    """The results without what a clock says."""
    timed = ("wall_seconds", "train_seconds", "seconds")
    if isinstance(results, dict):
        return {key: untimed(value) for key, value in results.items() if key not in timed}
    return [untimed(each) for each in results] if isinstance(results, list) else results
