"""Many pairs of a file through ``mtdnn predict``: their rate, the process's memory, and whether answers stand in order.

python -m benchmarks.predict_file MODEL --task everyday_nli --data-dir ../shared/data

The pairs are those of SNLI, over and over until there are enough. An answer stands in its row's place
where it is what the same pair gets among a few others.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

from benchmarks import measure
from mtdnn.data.sources import find_source
from mtdnn.data.units import read_units
from mtdnn.heads.base import build_head
from mtdnn.predictor import Predictor
from mtdnn.tasks import SPLITS, load_tasks

COMPARED = 500  # answers
TOLERANCE = 1e-4
WINDOW = 3 * 4096  # rows after which memory is looked at for the first time
PAUSE = 0.2

Pair = Sequence[str | None]


def snli(data_dir: Path) -> Iterator[Pair]:
    """Its pairs, from the first to the last and then again."""
    task = load_tasks()["snli"]
    sources = [find_source(task, split, layout="files", data_dir=data_dir) for split in SPLITS]
    return cycle([unit.texts[0] for source in sources for unit in read_units(source, build_head(task))[0]])


def predict(model: Path, task: str, source: Path, answers: Path) -> tuple[float, float, int, int]:
    """Wall and processor seconds; resident bytes after the first rows, and the most after them."""
    command = [sys.executable, "-m", "mtdnn", "predict", str(model), str(source), "--task", task]
    started, early, latest = time.perf_counter(), 0, 0
    with answers.open("wb") as file, subprocess.Popen(command, stdout=file) as process:  # noqa: S603
        while process.poll() is None:
            now = resident(process.pid)
            if not early and lines(answers) >= WINDOW:
                early = now
            latest = max(latest, now) if early else 0
            time.sleep(PAUSE)
    if process.returncode:
        raise SystemExit(process.returncode)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, early, latest


def resident(process: int) -> int:
    try:
        found = Path(f"/proc/{process}/statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * resource.getpagesize() if len(found) > 1 else 0


def lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def out_of_place(model: Path, task: str, pairs: Sequence[Pair], answers: Path) -> int:
    """How many answers, of some drawn at random, are not their pair's; all of them where a row is missing."""
    found = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    if len(found) != len(pairs):
        return len(pairs)
    drawn = random.Random(0).sample(range(len(pairs)), min(COMPARED, len(pairs)))
    predictor = Predictor.load(model)
    others = predictor.predict_rows((tuple(filter(None, pairs[place])) for place in drawn), tasks=[task])
    return sum(far(found[place][task], each[task]) for place, each in zip(drawn, others, strict=True))


def far(one: dict[str, dict[str, float]], other: dict[str, dict[str, float]]) -> bool:
    return any(abs(share - other["probabilities"][word]) > TOLERANCE for word, share in one["probabilities"].items())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict_file", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--task", required=True, help="a head of the model for pairs of texts into classes")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--name", default="predict_file", help="of the file of results")
    given = parser.parse_args(arguments)
    pairs = list(islice(snli(given.data_dir), given.rows))
    with tempfile.TemporaryDirectory() as folder:
        source, answers = Path(folder) / "pairs.jsonl", Path(folder) / "answers.jsonl"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text_a": a, "text_b": b}) + "\n" for a, b in pairs)
        wall, processor, early, latest = predict(given.model, given.task, source, answers)
        wrong = out_of_place(given.model, given.task, pairs, answers)
    compared = min(COMPARED, given.rows)
    told = [
        f"{given.rows:,} pairs of SNLI, {len(set(map(tuple, pairs))):,} different ones, through `mtdnn predict` with "
        f"{os.environ.get('OMP_NUM_THREADS', 'its own choice of')} threads:",
        f"- {given.rows / processor:.0f} pairs a processor second, {given.rows / wall:.0f} a second by the clock "
        f"(start included: {wall:.0f} s, {processor:.0f} s of processors);",
        f"- resident memory {early / 1e6:.0f} MB after {WINDOW:,} answers, at most {latest / 1e6:.0f} MB after them;",
        f"- {compared} answers drawn at random, beside those that the same pairs get when they alone are predicted: "
        f"{wrong} differ by more than {TOLERANCE:g}.",
        f"\n`{' '.join(['python -m benchmarks.predict_file', *(arguments or [])])}`: {measure.machine()}.",
    ]
    text = "\n".join(told) + "\n"
    measure.RESULTS.mkdir(parents=True, exist_ok=True)
    (measure.RESULTS / f"{given.name}.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
