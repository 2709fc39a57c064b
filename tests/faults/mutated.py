"""Damages files at random and reads them: what S4 runs in a process of its own.

Prints, as JSON, for every format how many were read, how many refused, foreign errors, the slowest and the peak.
"""

import json
import random
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from support import NLI, STS, TASKS, write_toy_experiment

from mtdnn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mtdnn.config import load_experiment
from mtdnn.data.sources import find_source
from mtdnn.data.units import read_units
from mtdnn.errors import MtdnnError
from mtdnn.files import sha256
from mtdnn.heads.base import build_head
from mtdnn.model import load_model
from mtdnn.tasks import read_task
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer

EXTREMES = [b"0", b"-1", b"1e999", b"NaN", b"9" * 30, b"18446744073709551615", b"-2147483649", b"null", b"[]", b'""']
EXTREMES += [(value % 2**64).to_bytes(8, "little") for value in (0, -1, 2**31, 2**63, 2**40)]


def mutated(content: bytes, rng: random.Random, *, start: int = 0) -> bytes:
    """One to three changes behind ``start``: bits, a cut, a splice, a chunk many times over, an extreme number."""
    head, data = content[:start], bytearray(content[start:])
    for _ in range(rng.randint(1, 3)):
        size = max(1, len(data))
        place, other = rng.randrange(size), rng.randrange(size)
        match rng.randrange(6):
            case 0:
                for _ in range(rng.randint(1, 8)):
                    if data:
                        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case 1:
                del data[place:]
            case 2:
                data[place:place] = data[other : other + rng.randint(1, 40)]
            case 3:
                data[place:place] = data[other : other + rng.randint(1, 20)] * rng.choice([2, 10, 500])
            case 4:
                value = rng.choice(EXTREMES)
                data[place : place + rng.choice([0, 1, len(value)])] = value
            case 5:
                del data[place : place + rng.randint(1, 30)]
    return head + bytes(data)


def read_data(folder: Path, name: str, task) -> None:
    files = {"path": name, "splits": {"train": "train"}}
    task = type(task).model_validate(
        {**task.model_dump(exclude={"folder"}), "data": {"files": files}, "folder": folder}
    )
    read_units(find_source(task, "train"), build_head(task), bad_rows="skip")


def read_experiment(path: Path) -> None:
    load_experiment(path)


def read_definition(path: Path) -> None:
    task = read_task(path)
    build_head(task)
    read_units(find_source(task, "train"), build_head(task), bad_rows="skip")


def read_checkpoint(folder: Path, *, trusting: bool) -> None:
    """``trusting``: with a manifest that says that the changed part is right, so that the part itself is read."""
    if trusting:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["model.safetensors"] = sha256(folder / "model.safetensors")
        (folder / "manifest.json").write_text(json.dumps(manifest))
    load_checkpoint(folder)


def subjects(folder: Path) -> dict[str, tuple[Path, Callable[[], object], int]]:
    """By format: the file that is changed, what reads it, and where the changes begin."""
    rows = [{"a": f"red {i}", "b": "blue", "label": ("no", "yes")[i % 2]} for i in range(20)]
    (folder / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "x.csv").write_text('a,b,label\n"red","blue ""x""",yes\n' * 3 + "red,blue,no\n")
    (folder / "x.tsv").write_text("a\tb\tlabel\n" + "red\tblue\t2.5\n" * 20)
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in rows[0]}), folder / "x.parquet")
    footer = int.from_bytes((folder / "x.parquet").read_bytes()[-8:-4], "little")
    experiment = write_toy_experiment(folder / "toy")
    parts = {"model": {"w": torch.ones(40), "b": torch.zeros(3)}}
    save_checkpoint(folder / "checkpoint", Checkpoint(1, {"progress": {}}, parts))
    step = folder / "checkpoint/step-00000001"
    save_checkpoint(folder / "other", Checkpoint(1, {"progress": {}}, parts))
    model = tiny_model(TASKS, max_length=32)
    model.save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    return {
        "task YAML": (folder / "toy/tasks/nli.yaml", partial(read_definition, folder / "toy/tasks/nli.yaml"), 0),
        "experiment YAML": (experiment, partial(read_experiment, experiment), 0),
        "JSON lines": (folder / "x.jsonl", partial(read_data, folder, "x.jsonl", NLI), 0),
        "CSV": (folder / "x.csv", partial(read_data, folder, "x.csv", NLI), 0),
        "TSV": (folder / "x.tsv", partial(read_data, folder, "x.tsv", STS), 0),
        "Parquet": (
            folder / "x.parquet",
            partial(read_data, folder, "x.parquet", NLI),
            (folder / "x.parquet").stat().st_size - footer - 8,
        ),
        "manifest": (step / "manifest.json", partial(load_checkpoint, step), 0),
        "safetensors": (
            folder / "other/step-00000001/model.safetensors",
            partial(read_checkpoint, folder / "other/step-00000001", trusting=True),
            0,
        ),
        "model": (folder / "model/model.safetensors", partial(load_model, folder / "model"), 0),
        "model config": (folder / "model/config.json", partial(load_model, folder / "model"), 0),
    }


def judge(path: Path, read: Callable[[], object], start: int, count: int, seed: str) -> dict[str, object]:
    rng, content = random.Random(seed), path.read_bytes()
    read()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"read": 0, "refused": 0, "foreign": [], "slowest": 0.0}
    for number in range(count):
        if path.name == "model.safetensors" and path.parent.name == "model":
            path.write_bytes(mutated(content[:8000], rng) + content[8000:])  # the header
        else:
            path.write_bytes(mutated(content, rng, start=start))
        started = time.process_time()
        try:
            read()
            found["read"] += 1
        except MtdnnError:
            found["refused"] += 1
        except Exception as error:
            if not any(each.startswith(type(error).__name__) for each in found["foreign"]):
                found["foreign"].append(f"{type(error).__name__} at {number}: {traceback.format_exc()[-700:]}")
        found["slowest"] = max(found["slowest"], time.process_time() - started)
    path.write_bytes(content)
    found["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return found


def main(folder: Path, counts: dict[str, int]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    every = subjects(folder)
    for name, count in counts.items():
        path, read, start = every[name]
        print(json.dumps({name: judge(path, read, start, count, name)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
