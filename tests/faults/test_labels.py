"""C3: a saved model and the task at hand that do not fit."""

import json
import shutil

import pytest
from support import write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.errors import CheckpointError
from mtdnn.experiment import Experiment
from mtdnn.files import MANIFEST
from mtdnn.model import load_model
from mtdnn.tasks import load_tasks

CHAIN = "systems={x: [{name: joint, kind: joint, tasks: [nli], save_model: true}, \
{name: after, kind: finetune, from: joint, tasks: [nli]}]}"
SHORT = ["train.epochs=1", "seeds=[1]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a joint model of nli."""
    folder = tmp_path_factory.mktemp("labels")
    path = write_toy_experiment(folder)
    job = Experiment(load_experiment(path, overrides=[CHAIN, *SHORT]), load_tasks(folder / "tasks"), out=folder / "out")
    job.run_cell(job.cells[0])
    return folder


@pytest.fixture
def own(trained, tmp_path):
    """A copy of that folder, and the model in it."""
    folder = shutil.copytree(trained, tmp_path / "copy")
    return folder, folder / "out/x/joint/joint/full/1/model"


def relabel(folder, labels):
    path = folder / "tasks/nli.yaml"
    text = path.read_text().replace("- 'no'\n- maybe\n- 'yes'\n", "".join(f"- '{label}'\n" for label in labels))
    assert text != path.read_text()
    path.write_text(text)


def evaluate(mtdnn, folder, model, *more):
    command = ("evaluate", model, "--task", "nli", "--split", "test", "--task-defs", folder / "tasks")
    return mtdnn(*command, *more)


@pytest.mark.fault("C3")
def test_another_order_of_labels_is_refused_with_both_or_the_heads_rows_are_put_in_it(own, mtdnn, tried):
    folder, model = own
    before = folder / "before.jsonl"
    assert evaluate(mtdnn, folder, model, "--out", before)[0] == 0
    relabel(folder, ["yes", "no", "maybe"])
    code, _, error = evaluate(mtdnn, folder, model)
    assert code == CheckpointError.exit_code
    assert "['no', 'maybe', 'yes']" in error
    assert "['yes', 'no', 'maybe']" in error
    assert "--remap-labels" in error
    after = folder / "after.jsonl"
    assert evaluate(mtdnn, folder, model, "--out", after, "--remap-labels")[0] == 0
    old, new = ([json.loads(line) for line in path.read_text().splitlines()] for path in (before, after))
    assert [row["label"] for row in new] == [row["label"] for row in old]
    assert [row["prediction"] for row in new] == [
        {0: 1, 1: 2, 2: 0}[row["prediction"]]
        for row in old  # no, maybe, yes in the new order
    ]
    for row, same in zip(new, old, strict=True):
        assert list(row["probabilities"]) == ["yes", "no", "maybe"]
        assert row["probabilities"] == pytest.approx(same["probabilities"])
    tried(len(old), "refused with both; remapped, the same words")


@pytest.mark.fault("C3")
@pytest.mark.parametrize("labels", [["no", "yes"], ["no", "maybe", "sure"], ["no", "maybe", "yes", "never"]])
def test_other_labels_are_refused_with_both_even_when_they_should_be_remapped(own, mtdnn, tried, labels):
    folder, model = own
    relabel(folder, labels)
    for option in ([], ["--remap-labels"]):
        code, _, error = evaluate(mtdnn, folder, model, *option)
        assert code == CheckpointError.exit_code
        assert str(labels) in error
        assert "['no', 'maybe', 'yes']" in error
    tried(2, "refused with both")


@pytest.mark.fault("C3")
def test_another_tokenizer_is_refused_with_both(own, mtdnn, tried):
    folder, model = own
    path = model / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(content))
    (model / MANIFEST).unlink()
    code, _, error = evaluate(mtdnn, folder, model)
    assert code == CheckpointError.exit_code
    assert error.count(" tokens (") == 2
    tried(1, "refused with both")


@pytest.mark.fault("C3")
def test_a_stage_does_not_start_from_a_model_of_another_length(own, tried):
    folder, model = own
    config = json.loads((model / "config.json").read_text())
    (model / MANIFEST).unlink()
    (model / "config.json").write_text(json.dumps({**config, "encoder_max_length": 64, "max_length": 64}))
    settings = load_experiment(folder / "toy.yaml", overrides=[CHAIN, *SHORT])
    job = Experiment(settings, load_tasks(folder / "tasks"), out=folder / "out")
    with pytest.raises(CheckpointError, match=r"rows of 64 tokens, encoder.max_length is 32"):
        job.at(job.cells[1]).start()
    assert load_model(model).config.encoder_max_length == 64
    tried(1, "refused with both")
