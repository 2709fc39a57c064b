"""What an encoder block stands for when it names a model folder of ours."""

import json
import subprocess

import pytest
import torch
from support import MTDNN, NLI, STS, TASKS, own_process, save_tiny, write_toy_experiment
from transformers import BertModel

from mtdnn.config import EncoderConfig
from mtdnn.pretrained import (
    architecture_of,
    config_of,
    content_of,
    fresh_model,
    multi_task_folder,
    tokenizer_of,
    weights_of,
)
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer


@pytest.mark.parametrize("tasks", [(), TASKS], ids=["encoder alone", "with heads"])
def test_a_model_folder_of_ours_gives_its_encoder_and_pooler_but_not_its_heads(tmp_path, tasks):
    model = save_tiny(tmp_path, tasks)
    chosen = EncoderConfig(path=str(tmp_path), max_length=64)
    fresh, again = (fresh_model(chosen, [NLI, STS], seed=1) for _ in range(2))
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(fresh.encoder.state_dict()[name], value)
        assert torch.equal(weights_of(chosen).state_dict()[name], value)
    assert torch.equal(fresh.pooler.dense.weight, model.pooler.dense.weight)
    assert list(fresh.task_defs) == ["nli", "sts"]
    assert torch.equal(fresh.head("nli").output.weight, again.head("nli").output.weight)
    if tasks:
        assert not torch.equal(fresh.head("nli").output.weight, model.head("nli").output.weight)
    assert fresh.config.encoder_max_length == 64
    assert architecture_of(chosen).config.num_hidden_layers == config_of(chosen).num_hidden_layers == 2
    assert len(tokenizer_of(chosen)) == len(tiny_tokenizer())


def test_another_pooling_than_the_folder_s_starts_from_the_seed(tmp_path):
    save_tiny(tmp_path, pool="mean")
    first, other = (fresh_model(EncoderConfig(path=str(tmp_path)), [NLI], seed=seed) for seed in (1, 2))
    assert not torch.equal(first.pooler.dense.weight, other.pooler.dense.weight)
    assert fresh_model(EncoderConfig(path=str(tmp_path), pool="mean"), [NLI], seed=1).pooler.kind == "mean"


def test_a_plain_encoder_s_folder_is_none_of_ours(tmp_path):
    BertModel(tiny_model([]).encoder.config).save_pretrained(tmp_path / "plain")
    (tmp_path / "odd").mkdir()
    assert multi_task_folder(str(tmp_path / "plain")) is None
    for content in ("[]", "{", '{"model_type": "bert"}'):
        (tmp_path / "odd/config.json").write_text(content)
        assert multi_task_folder(str(tmp_path / "odd")) is None
    assert multi_task_folder("some-org/some-model") is None


def test_the_content_of_a_folder_tells_weights_and_tokenizer_but_not_what_else_lies_there(tmp_path):
    found = []
    for seed in (3, 3, 4):
        save_tiny(tmp_path, seed=seed)
        (tmp_path / "README.md").write_text(f"{len(found)}")
        found.append(content_of(EncoderConfig(path=str(tmp_path))))
    assert found[0] == found[1] != found[2]
    path = tmp_path / "tokenizer_config.json"
    path.write_text(path.read_text().replace("}", ' , "note": 1}', 1))
    assert content_of(EncoderConfig(path=str(tmp_path))) != found[2]


def test_the_content_of_a_hub_s_model_is_its_commit(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--some-org--tiny" / "snapshots" / "abc"
    BertModel(tiny_model([]).encoder.config).save_pretrained(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert content_of(EncoderConfig(path="some-org/tiny")) == "abc"


@pytest.mark.parametrize("path", ["tiny", "package:not_there/model", "some-org/not-there", "no/such/folder"])
def test_what_cannot_be_told_has_no_content(path):
    assert content_of(EncoderConfig(path=path)) is None


def test_an_experiment_starts_from_a_model_folder(tmp_path):
    write_toy_experiment(tmp_path)
    save_tiny(tmp_path / "model")
    stage = "{name: finetune, kind: finetune, tasks: [sts], seeds: [1]}"
    options = ["--set", f"encoder.path={tmp_path / 'model'}", "--set", f"systems={{single: [{stage}]}}"]
    command = [*MTDNN, "run", "toy.yaml", "--task-defs", "tasks", *options, "--set", "train.epochs=1", "--out", "out"]
    done = subprocess.run(
        command, cwd=tmp_path, env=own_process(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "out/results.json").read_text())
    assert result["inputs"]["encoder"]["path"] == str(tmp_path / "model")
