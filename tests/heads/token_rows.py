"""Rows through a head and a tokenizer to a batch, as the package makes them."""

from mtdnn.data.batch import make_batch
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split
from mtdnn.data.units import read_units
from mtdnn.files import write_lines
from mtdnn.heads.base import build_head
from mtdnn.testing.encoders import tiny_tokenizer


def source_of(folder, task, rows):
    """The rows as the task's training file below a folder."""
    write_lines(folder / "train.jsonl", rows)
    return find_source(task.model_copy(update={"folder": folder}), "train", data_dir=folder)


def units_of(folder, task, rows):
    return read_units(source_of(folder, task, rows), build_head(task))[0]


def split_of(folder, task, rows, *, max_length=64, tokenizer=None):
    return load_split(
        source_of(folder, task, rows), build_head(task), tokenizer or tiny_tokenizer(), max_length=max_length
    )


def batch_of(folder, task, rows, *, max_length=64, tokenizer=None):
    data = split_of(folder, task, rows, max_length=max_length, tokenizer=tokenizer)
    return make_batch(data, range(len(data)), build_head(task), pad_id=0)
