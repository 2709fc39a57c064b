"""``mtdnn submit`` as a user types it, on a run that ``mtdnn run`` made."""

import json
import shutil
import zipfile
from dataclasses import replace

import pytest
import yaml

from mtdnn.interop.glue_files import GLUE_FILES
from mtdnn.interop.glue_submission import submit
from mtdnn.tasks import load_tasks

ROWS = 4
EXPERIMENT = """
name: glue
encoder: {path: tiny, pool: mean, max_length: 32}
train: {epochs: 1, batch_size: 8}
seeds: [1, 2]
systems:
  mtdnn:
    - {name: joint, kind: joint, tasks: [cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte], seeds: [1]}
    - {name: finetune, kind: finetune, from: joint, tasks: [rte]}
"""


def write_glue(folder):
    """Every GLUE task with four rows a split; the test split carries no labels."""
    shipped = load_tasks()
    for file in GLUE_FILES:
        task = shipped[file.task]
        layout = {"path": f"{file.task}-{{split}}.jsonl", "unlabelled": ["test"], "uid": "uid"}
        content = task.model_dump(mode="json", exclude={"name", "folder"}, exclude_none=True)
        (folder / f"{file.task}.yaml").write_text(yaml.safe_dump({**content, "data": {"files": layout}}))
        targets = task.label_names or (0, 5)
        for split in ("train", "validation", "test"):
            rows = []
            for number in range(ROWS):
                texts = {column: f"{split} {column} {number}" for column in task.inputs.columns()}
                label = None if split == "test" else targets[number % len(targets)]
                rows.append({"uid": number, **texts, "label": label})
            (folder / f"{file.task}-{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.filterwarnings("ignore::mtdnn.metrics.base.UndefinedMetricWarning")
def test_submit_writes_the_zip_of_a_run_and_tells_whose_answers_it_holds(mtdnn, tmp_path, monkeypatch):
    monkeypatch.setitem(submit.__kwdefaults__, "files", [replace(file, rows=ROWS) for file in GLUE_FILES])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks").mkdir()
    write_glue(tmp_path / "tasks")
    (tmp_path / "glue.yaml").write_text(EXPERIMENT)
    code, _, err = mtdnn("run", "glue.yaml", "--task-defs", "tasks", "--out", "run")
    assert code == 0, err
    ask = ("submit", "run", "--task-defs", "tasks")
    code, _, err = mtdnn(*ask)
    assert code == 4
    assert "RTE.tsv: models with the seeds 1, 2; say which with --seed" in err
    assert "WNLI.tsv: no model of task 'wnli'; no cell trained it" in err
    code, out, err = mtdnn(*ask, "--seed", "2", "--system", "mtdnn", "--wnli-majority")
    assert code == 0, err
    told = {line.split()[1]: line for line in out.splitlines() if ".tsv" in line}
    assert len(told) == 11
    assert "run/mtdnn/finetune/rte/full/2/model" in told["RTE.tsv"]
    assert "run/mtdnn/joint/joint/full/1/model" in told["AX.tsv"]
    assert "no model: the majority answer 0 in every row" in told["WNLI.tsv"]
    assert "wrote submission.zip" in out
    with zipfile.ZipFile("submission.zip") as archive:
        assert sorted(archive.namelist()) == sorted(file.name for file in GLUE_FILES)
        assert archive.read("WNLI.tsv").decode() == "index\tprediction\n0\t0\n1\t0\n2\t0\n3\t0\n"
        answers = [line.split("\t")[1] for line in archive.read("MNLI-mm.tsv").decode().splitlines()[1:]]
        assert len(answers) == ROWS
        assert set(answers) <= {"entailment", "neutral", "contradiction"}
    shutil.rmtree("run/mtdnn/joint/joint/full/1/model")
    code, _, err = mtdnn(*ask, "--seed", "2", "--out", "late.zip")
    assert code == 4
    assert "CoLA.tsv: no model of task 'cola'" in err
    assert "save_model: true" in err
    assert not (tmp_path / "late.zip").exists()
    assert "Traceback" not in err


def test_submit_asks_for_a_run_s_folder(mtdnn, tmp_path):
    code, _, err = mtdnn("submit", tmp_path)
    assert code == 4
    assert "no finished cells there" in err
