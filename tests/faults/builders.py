"""Forks processes that build one cache, for R9: ``python builders.py FOLDER together|killed COUNT SECONDS``.

Prints a line for each, as JSON: what came of it.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from mtdnn.data import cache
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split
from mtdnn.heads.base import build_head
from mtdnn.tasks import TaskRegistry
from mtdnn.testing.encoders import tiny_tokenizer

STAGED = ".staged-"


class Counted:
    """The builds of this process."""

    number = 0
    build = None

    @staticmethod
    def build_and_count(entry, build):
        Counted.number += 1
        return Counted.build(entry, build)


def load(folder: Path, split: str = "train") -> int:
    task = TaskRegistry([folder])["nli"]
    return len(load_split(find_source(task, split), build_head(task), tiny_tokenizer(), max_length=16))


def together(folder: Path, count: int) -> None:
    """All at once; each says whether it built, and how many units it got."""
    read, write = os.pipe()
    children = []
    for _ in range(count):
        if (child := os.fork()) == 0:
            os.read(read, 1)
            Counted.build, cache.Entry._built = cache.Entry._built, Counted.build_and_count
            line = json.dumps({"units": load(folder), "built": Counted.number}) + "\n"
            os.write(sys.stdout.fileno(), line.encode())
            os._exit(0)
        children.append(child)
    os.write(write, b"x" * count)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count


def killed(folder: Path, count: int, seconds: float) -> None:
    """One after another, each killed at a random moment of its first ``seconds``."""
    rng = random.Random(0)
    for _ in range(count):
        if (child := os.fork()) == 0:
            load(folder)
            os._exit(0)
        deadline = time.monotonic() + 60
        place = cache.cache_dir()
        while not (place.is_dir() and any(path.name.startswith(STAGED) for path in place.iterdir())):
            assert time.monotonic() < deadline, "no build began"
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)[1]
        inside = any(path.name.startswith(STAGED) for path in place.iterdir())
        print(json.dumps({"killed": os.WIFSIGNALED(ended), "inside": inside}), flush=True)
        if not inside:  # it was done before
            shutil.rmtree(place)


if __name__ == "__main__":
    where, how, number, *rest = sys.argv[1:]
    together(Path(where), int(number)) if how == "together" else killed(Path(where), int(number), *map(float, rest))
