"""How fast texts become token ids on disk, beside what people would run instead; and the bytes that a row takes there.

python -m benchmarks.prepare
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets

from benchmarks import measure
from benchmarks.measure import Contender, timed
from benchmarks.shapes import LENGTHS
from benchmarks.texts import pairs, wordpieces
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import TaskSplit, load_split
from mtdnn.heads.base import build_head
from mtdnn.tasks import TaskDef

OURS, ROW_BY_ROW, MAPPED = "mtdnn", "row by row to JSON lines, as the official code does", "datasets.map, batched"
ALONE = "the tokenizer alone, all rows at once"
LABELS = ("entailment", "neutral", "contradiction")
MAX_LENGTH = 256
TASK = {
    "version": 1,
    "name": "pairs",
    "kind": "classification",
    "data": {"files": {"path": "{split}.jsonl"}},
    "inputs": {"text_a": "a", "text_b": "b"},
    "target": "label",
    "labels": list(LABELS),
    "metrics": ["accuracy"],
}


def write_rows(folder: Path, lengths: str, count: int, tokenizer: Any) -> Path:
    path = folder / "train.jsonl"
    texts = enumerate(pairs(LENGTHS[lengths], count, tokenizer))
    rows = ({"uid": str(number), "a": a, "b": b, "label": LABELS[number % 3]} for number, (a, b) in texts)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def by_ours(path: Path, tokenizer: Any, out: Path) -> TaskSplit:
    """Rows read and checked, tokenised and written to the cache; nothing is taken from an earlier round."""
    os.environ["MTDNN_CACHE"] = str(out)
    task = TaskDef.model_validate({**TASK, "folder": path.parent})
    source = find_source(task, "train", data_dir=path.parent)
    return load_split(source, build_head(task), tokenizer, max_length=MAX_LENGTH)


def by_row(path: Path, tokenizer: Any, out: Path) -> None:
    """Each row through the tokenizer by itself, and as a JSON line with its mask."""
    with path.open() as rows, (out / "train.json").open("w") as file:
        for line in rows:
            row = json.loads(line)
            found = tokenizer(row["a"], row["b"], truncation=True, max_length=MAX_LENGTH)
            written = {
                "uid": row["uid"],
                "label": LABELS.index(row["label"]),
                "token_id": found["input_ids"],
                "type_id": found["token_type_ids"],
                "attention_mask": found["attention_mask"],
            }
            file.write(json.dumps(written) + "\n")


def by_map(path: Path, tokenizer: Any, out: Path) -> datasets.Dataset:
    """The datasets library's way, into Arrow files."""
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(out))
    mapped = loaded.map(
        lambda rows: tokenizer(rows["a"], rows["b"], truncation=True, max_length=MAX_LENGTH),
        batched=True,
        remove_columns=["a", "b"],
        new_fingerprint=out.name,
    )
    mapped.save_to_disk(str(out / "mapped"))
    return mapped


def by_tokenizer_alone(path: Path, tokenizer: Any, _: Path) -> Any:
    """All rows at once, and nothing else but reading them: no way can be faster."""
    with path.open() as file:
        rows = [json.loads(line) for line in file]
    return tokenizer([row["a"] for row in rows], [row["b"] for row in rows], truncation=True, max_length=MAX_LENGTH)


Way = Callable[[Path, Any, Path], Any]
WAYS: dict[str, Way] = {OURS: by_ours, ROW_BY_ROW: by_row, MAPPED: by_map, ALONE: by_tokenizer_alone}
PAIRS = {(OURS, ROW_BY_ROW): 4.0, (OURS, MAPPED): None, (OURS, ALONE): None}


def in_fresh_folder(way: Way, path: Path, tokenizer: Any, sizes: list[int]) -> float:
    """Seconds of one way, and the bytes that it leaves."""
    with TemporaryDirectory() as folder:
        seconds = timed(partial(way, path, tokenizer, Path(folder)))()
        kept = [each for each in Path(folder).rglob("*") if each.is_file() and "json/default" not in str(each)]
        sizes.append(sum(each.stat().st_size for each in kept))
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare", description=__doc__)
    parser.add_argument("--lengths", choices=LENGTHS, default="snli")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--name", default="prepare", help="of the files of results")
    given = parser.parse_args(arguments)
    datasets.disable_progress_bars()
    tokenizer, before = wordpieces(), os.environ.get("MTDNN_CACHE")
    sizes: dict[str, list[int]] = {name: [] for name in WAYS}
    with TemporaryDirectory() as folder:
        path = write_rows(Path(folder), given.lengths, given.rows, tokenizer)
        tokens = sum(map(len, by_tokenizer_alone(path, tokenizer, Path(folder))["input_ids"]))
        field = [
            Contender(name, partial(in_fresh_folder, way, path, tokenizer, sizes[name]), tokens)
            for name, way in WAYS.items()
        ]
        rounds = measure.rounds_of(field, repetitions=given.repetitions)
    if before is None:
        del os.environ["MTDNN_CACHE"]
    else:
        os.environ["MTDNN_CACHE"] = before
    found = list(measure.compared(field, rounds, PAIRS, lengths=given.lengths))
    per_row = ", ".join(f"{name} {each[-1] / given.rows:.0f}" for name, each in sizes.items() if each[-1])
    notes = [
        f"{given.rows:,} pairs from JSON lines, the same fast tokenizer on every side. Ours also "
        f"checks every row, and writes the keys by which leaks are found. Bytes a row on disk: {per_row}."
    ]
    command = measure.command("prepare", arguments)
    measure.write(given.name, found, command=command, notes=notes)


if __name__ == "__main__":
    main(sys.argv[1:])
