"""S4: files that were damaged at random are read or refused, quickly, and by errors of ours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, TASKS, own_process

from mtdnn.errors import CheckpointError
from mtdnn.model import load_model
from mtdnn.testing.encoders import tiny_model

SMALL = ("task YAML", "experiment YAML", "JSON lines", "CSV", "TSV", "Parquet", "manifest", "safetensors")
LARGE = ("model", "model config")  # a whole model is loaded each time


def judged(folder, counts):
    environment = {**own_process(), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("mutated.py")), str(folder), json.dumps(counts)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr[-2000:]}"
    return {name: found for line in done.stdout.splitlines() for name, found in json.loads(line).items()}


@pytest.mark.fault("S4")
@pytest.mark.parametrize("names", [SMALL, LARGE], ids=["small files", "models"])
def test_damaged_files_are_read_or_refused_by_errors_of_ours(tmp_path, names, times, tried):
    count = times(300, full=10_000) if names is SMALL else times(10, full=500)
    found = judged(tmp_path, dict.fromkeys(names, count))
    for name, each in found.items():
        assert each["foreign"] == [], name
        assert each["read"] + each["refused"] == count, name
        assert each["refused"], name
        assert each["slowest"] < 1, name
        assert each["megabytes"] < 300, name
    assert list(found) == list(names)
    tried(count * len(names), f"{', '.join(names)}: slowest {max(each['slowest'] for each in found.values()):.2f} s")


@pytest.mark.fault("S4")
def test_a_model_with_a_weight_of_another_name_is_refused(tmp_path, tried):
    tiny_model(TASKS).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    content = path.read_bytes()
    assert content.count(b"heads.task_sts.output.weight") == 1
    path.write_bytes(content.replace(b"heads.task_sts.output.weight", b"heads.task_stz.output.weight"))
    with pytest.raises(CheckpointError, match=r"task_sts\.output\.weight\n.*task_stz\.output\.weight"):
        load_model(tmp_path)
    path.write_bytes(content)
    assert set(load_model(tmp_path).task_defs) == {task.name for task in TASKS}
    tried(1, "refused")
