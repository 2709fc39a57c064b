"""R9 and R10: many processes and kills inside one build; changed sources and damaged entries."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from support import own_process, write_toy_data

from mtdnn.data.cache import FACTS, UNITS
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split
from mtdnn.errors import DataError
from mtdnn.heads.base import build_head
from mtdnn.tasks import TaskRegistry
from mtdnn.testing.encoders import tiny_tokenizer


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MTDNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(folder):
    task = TaskRegistry([folder])["nli"]
    return load_split(find_source(task, "train"), build_head(task), tiny_tokenizer(), max_length=16)


def builders(folder, *arguments):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("builders.py")), str(folder), *map(str, arguments)],
        env={**own_process(), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def entries(cache):
    """What is there beside locks, which stay."""
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


@pytest.mark.fault("R9")
def test_processes_that_want_the_same_split_build_it_once_and_leave_nothing(tmp_path, cache, tried):
    write_toy_data(tmp_path, rows=3000)
    found = builders(tmp_path, "together", 8)
    assert [each["units"] for each in found] == [3000] * 8
    assert sum(each["built"] for each in found) == 1
    (entry,) = entries(cache)
    assert sorted(path.name for path in entry.iterdir()) == [FACTS, UNITS]
    tried(8, "built once, all right")


@pytest.mark.fault("R9")
def test_after_kills_inside_the_build_the_split_is_right_and_nothing_is_left(tmp_path, cache, times, tried):
    count = times(5, full=20)
    write_toy_data(tmp_path, rows=6000)
    load(tmp_path)  # the first one in a process takes longer
    shutil.rmtree(cache)
    started = time.monotonic()
    expected = load(tmp_path).units(range(6000))
    whole = time.monotonic() - started
    shutil.rmtree(cache)
    found = builders(tmp_path, "killed", count, 0.5 * whole)
    assert sum(each["inside"] for each in found) >= count / 2
    assert load(tmp_path).units(range(6000)) == expected
    (entry,) = entries(cache)
    assert entry.name.startswith("nli-train-")
    tried(len(found), "right, nothing left")


@pytest.mark.fault("R9")
def test_what_a_killed_build_left_of_a_split_that_is_gone_is_cleared_by_the_next_build(tmp_path, cache, tried):
    write_toy_data(tmp_path)
    (cache / ".staged-nli-train-0").mkdir(parents=True)
    (cache / "nli-train-0.lock").touch()
    load(tmp_path)
    (entry,) = entries(cache)
    assert entry.name.startswith("nli-train-")
    tried(1, "cleared")


@pytest.mark.fault("R10")
def test_a_source_that_changed_at_the_same_size_and_time_is_read_again(tmp_path, cache, tried):
    write_toy_data(tmp_path)
    path = tmp_path / "nli-train.jsonl"
    first, second, *rest = path.read_text().splitlines(keepends=True)
    assert load(tmp_path).units([0])["uid"] == ["train0"]
    before = path.stat()
    path.write_text("".join([second, first, *rest]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert load(tmp_path).units([0])["uid"] == ["train1"]
    tried(1, "read again")


def damaged(content, how, rng):
    place = rng.randrange(len(content))
    match how:
        case "flipped":
            return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        case "truncated":
            return content[:place]
        case "empty":
            return b""


@pytest.mark.fault("R10")
@pytest.mark.parametrize("name", [UNITS, FACTS])
def test_a_damaged_entry_is_built_again_with_one_warning(tmp_path, cache, name, times, tried):
    write_toy_data(tmp_path)
    expected = load(tmp_path).units(range(48))
    (entry,) = entries(cache)
    rng, count = random.Random(0), times(6, full=60)
    content = (entry / name).read_bytes()
    for number in range(count):
        (entry / name).write_bytes(damaged(content, ("flipped", "flipped", "truncated", "empty")[number % 4], rng))
        with pytest.warns(UserWarning, match="was damaged and is made again") as told:
            found = load(tmp_path)
        assert len(told) == 1
        assert found.units(range(48)) == expected
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load(tmp_path)
    (entry / name).unlink()
    with pytest.warns(UserWarning, match="was damaged"):
        load(tmp_path)
    tried(count + 1, f"{name}: built again")


@pytest.mark.fault("R10")
def test_a_cache_that_cannot_be_written_is_an_error_that_says_so(tmp_path, monkeypatch, tried):
    write_toy_data(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTDNN_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="MTDNN_CACHE names another place"):
        load(tmp_path)
    tried(1, "an error of ours")
