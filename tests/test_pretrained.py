"""What an encoder block stands for when it names a model folder of ours."""

import json
import subprocess

import pytest
import torch
from support import MTDNN, NLI, STS, TASKS, own_process, write_toy_experiment
from transformers import BertModel

from mtdnn.config import EncoderConfig
from mtdnn.pretrained import architecture_of, config_of, fresh_model, multi_task_folder, tokenizer_of, weights_of
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer


def saved(folder, tasks, *, pool="native"):
    model = tiny_model(tasks, seed=3, pool=pool)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return model


@pytest.mark.parametrize("tasks", [(), TASKS], ids=["encoder alone", "with heads"])
def test_a_model_folder_of_ours_gives_its_encoder_and_pooler_but_not_its_heads(tmp_path, tasks):
    model = saved(tmp_path, tasks)
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
    saved(tmp_path, (), pool="mean")
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


def test_an_experiment_starts_from_a_model_folder(tmp_path):
    write_toy_experiment(tmp_path)
    saved(tmp_path / "model", ())
    stage = "{name: finetune, kind: finetune, tasks: [sts], seeds: [1]}"
    options = ["--set", f"encoder.path={tmp_path / 'model'}", "--set", f"systems={{single: [{stage}]}}"]
    command = [*MTDNN, "run", "toy.yaml", "--task-defs", "tasks", *options, "--set", "train.epochs=1", "--out", "out"]
    done = subprocess.run(
        command, cwd=tmp_path, env=own_process(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "out/results.json").read_text())
    assert result["inputs"]["encoder"]["path"] == str(tmp_path / "model")
