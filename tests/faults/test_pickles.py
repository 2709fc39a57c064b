"""A pickle in the place of any file that is read is refused, and never run."""

import io
import pickle

import pytest
import torch
from faults.canary import Canary, pickled
from support import toy_model, write_toy_experiment
from transformers import AutoConfig

from mtdnn.checkpoint import Checkpoint, load_checkpoint, load_latest, save_checkpoint
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split
from mtdnn.encoder import load_weights
from mtdnn.errors import CheckpointError, DataError, EncoderError
from mtdnn.files import sha256, write_json
from mtdnn.heads.base import build_head
from mtdnn.model import load_model
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_tokenizer


@pytest.fixture
def canary(tmp_path):
    """The file that is there once the code was run."""
    return tmp_path / "canary"


def in_torchs_format(path):
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(1), "evil": Canary(path)}, file)
    return file.getvalue()


FORMATS = {"pickle": pickled, "torch": in_torchs_format}


def test_the_canary_sings(tmp_path):
    """What every other test here relies on: both formats run their code where they are unpickled."""
    pickle.loads(pickled(tmp_path / "pickle"))
    torch.load(io.BytesIO(in_torchs_format(tmp_path / "torch")), weights_only=False)
    assert {path.name for path in tmp_path.iterdir()} == set(FORMATS)


@pytest.mark.fault("S1")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_pickle_in_a_checkpoint_is_refused_even_with_the_right_checksum(tmp_path, canary, tried, part, form):
    parts = {"model": {"w": torch.zeros(2)}, "optimizer": {"0.exp_avg": torch.zeros(2)}}
    save_checkpoint(tmp_path / "checkpoint", Checkpoint(1, {"x": 1}, parts))
    folder = tmp_path / "checkpoint/step-00000001"
    (folder / part).write_bytes(FORMATS[form](canary))
    if part != "manifest.json":
        hashes = {path.name: sha256(path) for path in folder.iterdir() if path.name != "manifest.json"}
        write_json(folder / "manifest.json", {"format": 1, "files": hashes})
    with pytest.raises(CheckpointError):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match="no intact checkpoint"):
        load_latest(folder.parent)
    assert not canary.exists()
    tried(1, "refused")


@pytest.mark.fault("S1")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pickle_as_the_weights_of_a_model_folder_is_refused(tmp_path, canary, tried, name, form):
    toy_model().save_pretrained(tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    (tmp_path / "model" / name).write_bytes(FORMATS[form](canary))
    with pytest.raises(CheckpointError, match="the model cannot be read"):
        load_model(tmp_path / "model")
    assert not canary.exists()
    tried(1, "refused")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch tells, and refuses
@pytest.mark.fault("S1")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pickle_as_the_weights_of_an_encoder_is_refused(tmp_path, canary, tried, name, form):
    toy_model().encoder.save_pretrained(tmp_path / "encoder")
    config = AutoConfig.from_pretrained(tmp_path / "encoder")
    (tmp_path / "encoder/model.safetensors").unlink()
    (tmp_path / "encoder" / name).write_bytes(FORMATS[form](canary))
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_weights(str(tmp_path / "encoder"), config)
    assert not canary.exists()
    tried(1, "refused")


def test_an_encoder_that_is_only_there_as_tensors_in_torchs_format_is_read(tmp_path):
    """What the refusals must not break: older encoders of the hub."""
    encoder = toy_model().encoder
    encoder.config.save_pretrained(tmp_path)
    torch.save(encoder.state_dict(), tmp_path / "pytorch_model.bin")
    found = load_weights(str(tmp_path), AutoConfig.from_pretrained(tmp_path))
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in encoder.state_dict().items())


@pytest.mark.fault("S1")
@pytest.mark.parametrize("form", FORMATS)
def test_a_pickle_in_the_cache_of_tokenised_data_is_refused(tmp_path, canary, tried, monkeypatch, form):
    monkeypatch.setenv("MTDNN_CACHE", str(tmp_path / "cache"))
    write_toy_experiment(tmp_path / "toy")
    task = load_tasks(tmp_path / "toy/tasks")["nli"]

    def load():
        return load_split(find_source(task, "train"), build_head(task), tiny_tokenizer(), max_length=32)

    want = load().units([0])
    for name in ("units.arrow", "facts.json"):
        (file,) = (tmp_path / "cache").rglob(name)
        file.write_bytes(FORMATS[form](canary))
        with pytest.warns(UserWarning, match="was damaged and is made again"):
            assert load().units([0]) == want
    assert not canary.exists()
    tried(2, "built anew")


@pytest.mark.fault("S1")
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet"])
def test_a_pickle_as_a_data_file_is_refused(tmp_path, canary, tried, suffix, form):
    write_toy_experiment(tmp_path / "toy")
    folder = tmp_path / "toy/tasks"
    text = (folder / "nli.yaml").read_text().replace(".jsonl", f".{suffix}")
    (folder / "nli.yaml").write_text(text)
    for split in ("train", "validation", "test"):
        (folder / f"nli-{split}.{suffix}").write_bytes(FORMATS[form](canary))
    task = load_tasks(folder)["nli"]
    with pytest.raises(DataError):
        load_split(find_source(task, "train"), build_head(task), tiny_tokenizer(), max_length=32)
    assert not canary.exists()
    tried(1, "refused")


@pytest.mark.fault("S1")
@pytest.mark.parametrize("form", FORMATS)
def test_a_pickle_as_an_official_checkpoint_is_refused(tmp_path, canary, tried, mtdnn, form):
    (tmp_path / "evil.pt").write_bytes(FORMATS[form](canary))
    code, _, told = mtdnn("import-mtdnn", tmp_path / "evil.pt", "--out", tmp_path / "out")
    assert code == CheckpointError.exit_code
    assert "evil.pt" in told
    assert not (tmp_path / "out").exists()
    assert not canary.exists()
    tried(1, "refused")
