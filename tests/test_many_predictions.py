"""Forty thousand pairs of a file: in order, and in memory that does not grow."""

import json
import random
import subprocess
import sys

import pytest
from support import NLI, ONE_ARENA, own_process

from mtdnn.predictor import Predictor
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer

COUNT, DISTINCT, EARLY = 40_000, 101, 3 * 4096
GROWTH = 3_000_000  # bytes; the predictions that follow are more than 11 MB of Python objects
SCRIPT = """
import json, re, sys
from pathlib import Path
from mtdnn.prediction_files import write_predictions
from mtdnn.predictor import Predictor

folder, early = Path(sys.argv[1]), int(sys.argv[2])

def resident():
    return 1024 * int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

def measured(rows):
    for number, row in enumerate(rows, 1):
        yield row
        if number == early:
            seen.append(resident())

seen = []
rows = Predictor.load(folder).predict_file(folder / "in.csv", tasks=["nli"])
write_predictions(folder / "out.jsonl", measured(rows))
print(json.dumps([*seen, resident()]))
"""


def pair(number):
    """One of some pairs, of many lengths; which one follows which repeats only after all of them."""
    rng = random.Random(number * number % DISTINCT)
    return tuple(" ".join(rng.choices(("dog", "cat", "red", "sleeps"), k=rng.randint(1, 9))) for _ in range(2))


@pytest.mark.slow
def test_forty_thousand_pairs_are_predicted_in_order_in_memory_that_does_not_grow(tmp_path):
    predictor = Predictor(tiny_model([NLI], max_length=32).eval(), tiny_tokenizer())
    predictor.model.save_pretrained(tmp_path)
    predictor.tokenizer.save_pretrained(tmp_path)
    with (tmp_path / "in.csv").open("w") as file:
        file.write("a,b\n")
        file.writelines(",".join(pair(number)) + "\n" for number in range(COUNT))
    script = [sys.executable, "-c", SCRIPT, str(tmp_path), str(EARLY)]
    done = subprocess.run(
        script, env=own_process() | ONE_ARENA, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    assert after - before < GROWTH
    expected = [shares_alone(predictor, number) for number in range(DISTINCT)]
    assert len({round(share, 4) for share in expected}) > DISTINCT / 3
    with (tmp_path / "out.jsonl").open() as file:
        shares = [json.loads(line)["nli"]["probabilities"]["no"] for line in file]
    assert len(shares) == COUNT
    assert max(abs(share - expected[number % DISTINCT]) for number, share in enumerate(shares)) < 1e-5


def shares_alone(predictor, number):
    """The probability of one pair that is predicted by itself."""
    (found,) = predictor.predict_rows([pair(number)], tasks=["nli"])
    return found["nli"]["probabilities"]["no"]
