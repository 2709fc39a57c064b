"""The model's format: what is saved comes back, tasks come and go, and the hub gets it with its card."""

import json
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import OfflineModeIsEnabled
from support import FAMILIES, NLI, RANK, STS, TASKS, toy_batch, toy_model
from transformers import AutoConfig, AutoModel

from mtdnn import hub_upload
from mtdnn.data.tokenize import tokenizer_name
from mtdnn.errors import CheckpointError, ConfigError
from mtdnn.files import MANIFEST, write_manifest
from mtdnn.interop.publish import publish
from mtdnn.model import MODEL_FORMAT, MultiTaskConfig, MultiTaskModel, load_model
from mtdnn.optim import make_optimizer
from mtdnn.regularizers.smart import Smart
from mtdnn.rng import Rng
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer


def same(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.parametrize("pool", ["native", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_comes_back_bit_by_bit(family, pool, tmp_path):
    model = toy_model(family, pool=pool).eval()
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path).eval()
    assert same(model.state_dict(), loaded.state_dict())
    assert loaded.task_defs == {task.name: task for task in TASKS}
    for task in TASKS:
        batch = toy_batch(task.name)
        assert torch.equal(model(batch), loaded(batch))
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    assert (again / "model.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert (again / "config.json").read_bytes() == (tmp_path / "config.json").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_encoder_that_was_saved_in_half_precision_is_trained_in_float32(dtype, tmp_path):
    encoder = AutoModel.from_config(toy_model().encoder.config).to(dtype)
    encoder.save_pretrained(tmp_path / "encoder")
    tiny_tokenizer().save_pretrained(tmp_path / "encoder")
    model = MultiTaskModel.from_encoder(str(tmp_path / "encoder"), [NLI], pool="mean")
    model.save_pretrained(tmp_path / "model")
    for each in (model, model.with_tasks([NLI, STS], seed=1), load_model(tmp_path / "model")):
        assert {weight.dtype for weight in each.parameters()} == {torch.float32}
    weight = model.encoder.embeddings.word_embeddings.weight
    assert torch.equal(weight, encoder.embeddings.word_embeddings.weight.float())
    half = MultiTaskModel.from_pretrained(tmp_path / "model", dtype=dtype)
    assert {weight.dtype for weight in half.parameters()} == {dtype}


def test_transformers_auto_classes_know_the_format(tmp_path):
    toy_model().save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), MultiTaskConfig)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, MultiTaskModel)
    assert loaded.task_defs["nli"].label_names == ("no", "maybe", "yes")


@pytest.mark.parametrize("load", [MultiTaskModel.from_pretrained, AutoModel.from_pretrained])
def test_a_run_s_folder_is_checked_by_whoever_loads_it_and_can_be_saved_into(tmp_path, load):
    model = toy_model()
    model.save_pretrained(tmp_path)
    write_manifest(tmp_path, format=MODEL_FORMAT)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        load(tmp_path.parent, subfolder=tmp_path.name)
    weights.write_bytes(whole)
    load(tmp_path).save_pretrained(save_directory=tmp_path, is_main_process=False)
    assert (tmp_path / MANIFEST).exists()
    load(pretrained_model_name_or_path=tmp_path).save_pretrained(tmp_path)
    assert not (tmp_path / MANIFEST).exists()
    assert same(load(tmp_path).state_dict(), model.state_dict())
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        load(tmp_path, use_safetensors=False)


def test_a_task_that_is_added_starts_from_the_seed_and_leaves_the_others_alone(tmp_path):
    model = toy_model(tasks=(NLI, STS))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.add_task(RANK, seed=3)
    alike, other = toy_model(tasks=(NLI, STS)), toy_model(tasks=(NLI, STS))
    alike.add_task(RANK, seed=3)
    other.add_task(RANK, seed=4)
    assert same(before, {name: value for name, value in model.state_dict().items() if "task_rank" not in name})
    assert same(model.state_dict(), alike.state_dict())
    assert not same(model.state_dict(), other.state_dict())
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert set(loaded.task_defs) == {"nli", "sts", "rank"}
    assert same(model.state_dict(), loaded.state_dict())


def test_a_task_that_is_there_cannot_be_added_nor_one_that_is_not_be_dropped():
    model = toy_model(tasks=(NLI, STS))
    with pytest.raises(ConfigError, match="task 'nli': the model has it already"):
        model.add_task(NLI, seed=1)
    with pytest.raises(ConfigError, match=r"unknown task of this model 'nil'\. Did you mean 'nli'"):
        model.drop_task("nil")


def test_a_task_that_is_dropped_is_gone_from_what_is_saved(tmp_path):
    model, batch = toy_model().eval(), toy_batch("nli")
    expected = model(batch)
    model.drop_task("sts")
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path).eval()
    assert set(loaded.task_defs) == {"nli", "rank"}
    assert not [name for name in loaded.state_dict() if "sts" in name]
    assert torch.equal(loaded(batch), expected)


def steps(model, count):
    optimizer = make_optimizer(model, learning_rate=0.01, weight_decay=0.1)
    smart = Smart()
    for step in range(count):
        rng = Rng(f"step {step}")
        batch = toy_batch("nli")
        clean = model.run(batch, rng=rng, sites=smart.sites)
        penalty = smart.penalty(model, batch, clean, rng.at("smart"))
        (model.loss(clean.logits, batch).mean() + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_with_the_shared_part_frozen_only_heads_learn_even_with_smart():
    model = toy_model(pool="native").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.freeze_shared()
    steps(model, 2)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"heads.task_nli.output.weight", "heads.task_nli.output.bias"}
    model.freeze_shared(False)
    steps(model, 1)
    assert not torch.equal(model.pooler.dense.weight, before["pooler.dense.weight"])


def test_labels_that_were_reordered_are_saved_in_their_new_order(tmp_path):
    model, batch = toy_model(tasks=(NLI,)).eval(), toy_batch("nli")
    old = model(batch)
    turned = NLI.model_copy(update={"labels": ["yes", "no", "maybe"]})
    model.remap_labels(turned)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path).eval()
    assert loaded.task_defs["nli"].label_names == ("yes", "no", "maybe")
    torch.testing.assert_close(loaded(batch), old[:, [2, 0, 1]])


def test_a_pooler_with_a_norm_is_taken_over_whole():
    source = toy_model("modernbert", pool="native")
    model = MultiTaskModel.around(source.encoder, source.config, pooler=source.pooler, seed=1)
    assert same(source.pooler.state_dict(), model.pooler.state_dict())


class FakeHub:
    """Keeps what is uploaded, as HfApi would send it."""

    def __init__(self):
        self.made, self.files, self.token = {}, {}, None

    def __call__(self, token=None):
        self.token = token
        return self

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        self.made[repo_id] = private
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.files = {path.name: path.read_bytes() for path in folder_path.iterdir()}


@pytest.fixture
def hub(monkeypatch):
    fake = FakeHub()
    monkeypatch.setattr(hub_upload, "HfApi", fake)
    return fake


def test_a_pushed_model_has_its_tokenizer_and_a_card_with_its_tasks(hub, tmp_path):
    model = tiny_model([NLI, STS])
    model.push_to_hub("someone/tiny", tokenizer=tiny_tokenizer(), private=True, token="secret")
    assert hub.made == {"someone/tiny": True}
    assert hub.token == "secret"
    card = ModelCard(hub.files["README.md"].decode())
    assert card.data.library_name == "mtdnn"
    assert "| nli, version 1 | classification | no, maybe, yes |" in card.text
    for name, content in hub.files.items():
        (tmp_path / name).write_bytes(content)
    assert same(model.state_dict(), load_model(tmp_path).state_dict())
    assert (tmp_path / "tokenizer.json").is_file()


def test_a_folder_is_published_with_the_card_that_lies_in_it(hub, tmp_path):
    model = tiny_model([NLI])
    model.config.tokenizer = tokenizer_name(tiny_tokenizer())
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\ntags: [mine]\n---\n\n# Mine\n")
    publish(tmp_path, "someone/mine")
    assert hub.files["README.md"] == (tmp_path / "README.md").read_bytes()
    assert hub.files["model.safetensors"] == (tmp_path / "model.safetensors").read_bytes()
    assert json.loads(hub.files["config.json"])["tasks"]["nli"]["labels"] == ["no", "maybe", "yes"]


def test_a_hub_that_refuses_is_told_with_the_remedy(hub, monkeypatch):
    def refuse(*args, **kwargs):
        raise OfflineModeIsEnabled("offline mode is enabled")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(ConfigError, match=r"repository 'someone/tiny': offline mode is enabled; hf auth login"):
        tiny_model([NLI]).push_to_hub("someone/tiny")


def test_a_model_of_another_label_order_is_refused_with_both():
    turned = NLI.model_copy(update={"labels": ["yes", "no", "maybe"]})
    with pytest.raises(CheckpointError, match=r"\['no', 'maybe', 'yes'\], .*\['yes', 'no', 'maybe'\]"):
        toy_model(tasks=(NLI,)).with_tasks([turned], seed=1)
