"""Tagging and span extraction from end to end: trained with SMART, saved, gone on with, evaluated, told, predicted."""

import json

import pytest
import torch
from safetensors.torch import load_file
from support import REAL_DATA

from mtdnn.config import ExperimentConfig
from mtdnn.data_store import DataStore
from mtdnn.experiment import Experiment
from mtdnn.predictor import Predictor
from mtdnn.tasks import load_tasks

pytestmark = pytest.mark.slow
TAGGING, READING, SIMILARITY = "everyday_tagging", "everyday_reading", "everyday_similarity"
CONTENT = {
    "name": "tokens",
    "encoder": {"path": "tiny", "pool": "native", "max_length": 48},
    "seeds": [1],
    "train": {"epochs": 2, "batch_size": 16, "learning_rate": 2e-3, "save_every": 5},
    "systems": {
        "smart": [
            {
                "name": "joint",
                "kind": "joint",
                "tasks": [TAGGING, READING, SIMILARITY],
                "max_train_rows": 160,
                "regularizers": [{"type": "smart", "preset": "default"}, {"type": "bregman"}],
            },
            {"name": "adapt", "kind": "adapt", "from": "joint", "tasks": [READING], "fractions": [0.1]},
        ]
    },
}
JOINT = "smart/joint/joint/full/1"


class StopError(Exception):
    """In place of a kill."""


def experiment_at(folder, **options):
    return Experiment(ExperimentConfig.model_validate(CONTENT), load_tasks(), out=folder, **options)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder and the results of a run."""
    folder = tmp_path_factory.mktemp("tokens")
    return folder, experiment_at(folder).run()


def test_both_heads_learn_beside_one_another_with_smart(done):
    _, (joint, adapted) = done
    losses = [epoch["losses"] for epoch in joint["history"]]
    for task in (TAGGING, READING):
        assert losses[-1][task] < losses[0][task]
    assert losses[0]["smart penalty"] > 0
    assert joint["metrics"][TAGGING]["test"]["values"]["span_f1"] > 0.3
    assert set(joint["metrics"][READING]["test"]["values"]) == {"squad_f1", "exact_match"}
    assert adapted["data"][READING]["trained_on"] == 48


def test_a_run_that_was_cut_off_ends_with_the_same_weights(done, tmp_path):
    folder, _ = done

    def stop(_cell, step):
        if step == 13:
            raise StopError

    job = experiment_at(tmp_path, on_step=stop)
    with pytest.raises(StopError):
        job.run_cell(job.cells[0])
    assert (tmp_path / JOINT / "checkpoint").is_dir()
    experiment_at(tmp_path).run_cell(job.cells[0])
    one, other = (load_file(each / JOINT / "model/model.safetensors") for each in (folder, tmp_path))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_predictions_of_raw_rows_are_those_of_the_evaluation(done, mtdnn, tmp_path):
    folder, _ = done
    for task, key in ((TAGGING, "labels"), (READING, "answer")):
        stored = lines_of(folder / JOINT / f"predictions-{task}-test.jsonl")
        data = DataStore(ExperimentConfig.model_validate(CONTENT), load_tasks(), data_dir=None)
        rows = [dict(zip(("text_a", "text_b"), unit.texts[0], strict=True)) for unit in data.read(task, "test")]
        path = tmp_path / f"{task}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        code, out, _ = mtdnn("predict", folder / JOINT / "model", path, "--task", task)
        assert code == 0
        told = [json.loads(line)[task] for line in out.splitlines()]
        assert [each[key] for each in told] == [each[key] for each in stored] == [e["prediction"] for e in stored]


def test_heads_that_read_tokens_and_one_that_does_not_share_an_encoding(done, monkeypatch):
    folder, _ = done
    predictor = Predictor.load(folder / JOINT / "model")
    ran = []
    plain = predictor.model.hidden
    monkeypatch.setattr(predictor.model, "hidden", lambda inputs: ran.append(1) or plain(inputs))
    row = {"text": ["Anna", "sold", "the", "lamp"], "question": "Who sold the lamp?", "context": "Anna sold the lamp."}
    tasks = [predictor.task(name) for name in (READING, TAGGING)]
    (found,) = predictor.predict([row], tasks)
    assert len(ran) == 2  # one text each
    assert found[TAGGING]["words"] == row["text"]
    assert found[READING]["answer"] in row["context"]
    pair = {"text_a": "Anna sold the lamp.", "text_b": "Anna sold it."}
    (alone,) = predictor.predict([pair], [predictor.task(SIMILARITY)])
    assert set(alone[SIMILARITY]) == {"score"}


def test_a_long_text_s_windows_are_read_together(done):
    folder, _ = done
    predictor = Predictor.load(folder / JOINT / "model")
    facts = "Anna sold the lamp in Paris. " * 30
    rows = [{"question": "Who sold the lamp?", "context": text} for text in ("Anna sold the lamp.", facts, facts[:90])]
    task = predictor.task(READING)
    together = [each[READING] for each in predictor.predict(rows, [task])]
    alone = [predictor.predict([row], [task])[0][READING] for row in rows]
    assert [each["answer"] for each in together] == [each["answer"] for each in alone]
    for row, each in zip(rows, together, strict=True):
        assert row["context"][each["start"] : each["end"]] == each["answer"] != ""


def test_a_row_without_its_text_is_refused_with_its_place(done, mtdnn, tmp_path):
    folder, _ = done
    (tmp_path / "in.jsonl").write_text('{"text": ["two words"]}\n')
    code, _, err = mtdnn("predict", folder / JOINT / "model", tmp_path / "in.jsonl", "--task", TAGGING)
    assert code == 4
    assert "in.jsonl:1" in err


def test_the_report_has_their_results_and_no_row_of_a_constant_answer(done, mtdnn, tmp_path):
    folder, _ = done
    about = json.loads((folder / "experiment.json").read_text())
    assert set(about["training"]) == {SIMILARITY}
    code, _, err = mtdnn("report", folder, "--out", tmp_path / "report")
    assert code == 0, err
    page = next((tmp_path / "report").glob("*.md")).read_text()
    assert "span_f1" in page
    assert "squad_f1" in page
    lines = [line for line in page.splitlines() if "no model" in line]
    assert lines
    assert all(SIMILARITY in line for line in lines)


def test_check_tells_the_labels_and_the_answers(mtdnn):
    code, out, err = mtdnn("check", TAGGING, READING)
    assert code == 0, err
    assert "O 1239" in out
    assert "334 answers, median 8" in out


def test_the_interval_of_evaluate_is_of_answers_in_words(done, mtdnn):
    folder, _ = done
    code, out, err = mtdnn("evaluate", folder / JOINT / "model", "--task", READING, "--split", "validation")
    assert code == 0, err
    assert "exact_match" in out


@pytest.mark.realdata
def test_squad_s_own_questions_train_and_evaluate(tmp_path):
    """A tiny random encoder on parts of the validation split: that it runs and counts rightly, not that it is good."""
    layout = {
        "path": "squad_sample/{split}.jsonl.xz",
        "splits": dict.fromkeys(("train", "validation", "test"), "validation[:400]"),
        "uid": "uid",
        "holdout": 0.2,
    }
    (tmp_path / "squad_part.yaml").write_text(json.dumps({"extends": "squad", "data": {"files": layout}, "version": 1}))
    content = {
        "name": "squad",
        "encoder": {"path": "tiny", "pool": "native", "max_length": 160},
        "seeds": [1],
        "train": {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3},
        "systems": {
            "smart": [
                {
                    "name": "finetune",
                    "kind": "finetune",
                    "tasks": ["squad_part"],
                    "max_train_rows": 48,
                    "regularizers": [{"type": "smart", "preset": "default"}],
                }
            ]
        },
    }
    job = Experiment(
        ExperimentConfig.model_validate(content), load_tasks(tmp_path), out=tmp_path / "out", data_dir=REAL_DATA
    )
    (result,) = job.run()
    counted = [job.data.split("squad_part", split) for split in ("train", "validation", "test")]
    assert sum(len(each) for each in counted) == 400
    assert all(each.num_rows.max() > 1 for each in counted)  # contexts of several windows
    assert result["data"]["squad_part"]["trained_on"] == 48
    values = result["metrics"]["squad_part"]["test"]["values"]
    assert 0 <= values["exact_match"] <= values["squad_f1"] < 1
    assert len(lines_of(job.folder(job.cells[0]).path / "predictions-squad_part-test.jsonl")) == len(counted[2])
