"""How fast new texts are predicted beside what people would run instead, and whether memory grows with the rows.

python -m benchmarks.predict
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from transformers import pipeline

from benchmarks import measure
from benchmarks.contenders.hf import classifier
from benchmarks.measure import Contender, Row, timed
from benchmarks.shapes import LENGTHS, SHAPES, TASK, config_of, model_of
from benchmarks.texts import pairs, wordpieces
from mtdnn.memory import peak_bytes, shown_bytes
from mtdnn.predictor import Predictor

BATCH = 32
OURS = "mtdnn predict"
Pairs = Sequence[tuple[str, str]]


class HfClassifier:
    """A stock classifier, asked by its pipeline or in a loop."""

    def __init__(self, shape: str, tokenizer: Any, device: torch.device):
        self.model = classifier(config_of(shape), device).eval()
        self.tokenizer, self.device = tokenizer, device

    def by_pipeline(self, texts: Pairs) -> None:
        ask = pipeline("text-classification", model=self.model, tokenizer=self.tokenizer, device=self.device)
        ask([{"text": a, "text_pair": b} for a, b in texts], batch_size=BATCH, top_k=None)

    @torch.inference_mode()
    def by_loop(self, texts: Pairs) -> None:
        for chosen in batches(texts):
            first, second = zip(*chosen, strict=True)
            inputs = self.tokenizer(list(first), list(second), padding=True, truncation=True, return_tensors="pt")
            self.model(**inputs.to(self.device)).logits.softmax(-1).tolist()

    def by_sorted_loop(self, texts: Pairs) -> None:
        self.by_loop(sorted(texts, key=lambda pair: -len(pair[0]) - len(pair[1])))


def batches(texts: Pairs) -> Iterator[Pairs]:
    waiting = iter(texts)
    while chosen := list(islice(waiting, BATCH)):
        yield chosen


def rows_of(shape: str, lengths: str, *, rows: int, repetitions: int) -> list[Row]:
    """Ours over each of the others."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = wordpieces()
    texts = list(pairs(LENGTHS[lengths], rows, tokenizer))
    ours, stock = Predictor(model_of(shape).eval().to(device), tokenizer), HfClassifier(shape, tokenizer, device)
    tokens = sum(map(len, tokenizer(*map(list, zip(*texts, strict=True)))["input_ids"]))
    ways: dict[str, Callable[[], Any]] = {
        OURS: lambda: list(ours.predict_texts(texts, ours.task(TASK))),
        f"pipeline, batches of {BATCH}": lambda: stock.by_pipeline(texts),
        f"loop, batches of {BATCH}": lambda: stock.by_loop(texts),
        f"loop, sorted batches of {BATCH}": lambda: stock.by_sorted_loop(texts),
    }
    field = [Contender(name, timed(way), tokens) for name, way in ways.items()]
    rounds = measure.rounds_of(field, repetitions=repetitions)
    pairs_of = {(OURS, each.name): None for each in field[1:]}
    return list(measure.compared(field, rounds, pairs_of, shape=shape, lengths=lengths))


def peak_of(rows: int) -> int:
    """Resident bytes that a process has had when it has predicted so many rows."""
    call = f"from benchmarks.predict import predicted; predicted({rows})"
    done = subprocess.run([sys.executable, "-c", call], check=True, capture_output=True, text=True)  # noqa: S603
    return int(done.stdout.split()[-1])


def predicted(rows: int) -> None:
    """Predict rows that come as a stream, and print the peak."""
    tokenizer = wordpieces()
    ours = Predictor(model_of("tiny").eval(), tokenizer)
    for _ in ours.predict_texts(pairs(LENGTHS["snli"], rows, tokenizer), ours.task(TASK)):
        pass
    print(peak_bytes(torch.device("cpu")))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict", description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="minilm")
    parser.add_argument("--lengths", choices=LENGTHS, nargs="+", default=list(LENGTHS))
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=measure.REPETITIONS)
    parser.add_argument("--memory-rows", type=int, nargs=2, default=(10_000, 100_000), help="whose peaks are compared")
    parser.add_argument("--name", default="predict", help="of the files of results")
    given = parser.parse_args(arguments)
    found = [
        row
        for lengths in given.lengths
        for row in rows_of(given.shape, lengths, rows=given.rows, repetitions=given.repetitions)
    ]
    few, many = given.memory_rows
    peaks = peak_of(few), peak_of(many)
    memory = (
        f"Peak resident memory of a process that predicts {few:,} rows: {shown_bytes(peaks[0])}; {many:,} rows: "
        f"{shown_bytes(peaks[1])} (a tiny encoder)."
    )
    command = measure.command("predict", arguments)
    measure.write(given.name, found, command=command, notes=[memory])


if __name__ == "__main__":
    main(sys.argv[1:])
