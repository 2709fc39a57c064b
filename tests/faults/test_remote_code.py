"""Code that a model or a data set brings along is not run, whatever a file says; a hub that is not there is noticed."""

import json
import re
import subprocess
import sys

import pytest
from faults.canary import module
from support import own_process, toy_model, write_toy_experiment

from mtdnn.config import EncoderConfig, load_experiment
from mtdnn.data.sources import Faults, find_source
from mtdnn.errors import ConfigError, DataError, EncoderError, MtdnnError
from mtdnn.hub import hub_answers
from mtdnn.model import load_model
from mtdnn.pretrained import architecture_of, tokenizer_of, weights_of
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_tokenizer

AUTO = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
(WAIT,) = hub_answers.__defaults__  # seconds


@pytest.fixture
def canary(tmp_path):
    """The file that is there once the code was run."""
    return tmp_path / "canary"


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.fault("S2")
@pytest.mark.parametrize("kind", ["bert", "evil"])
def test_code_of_an_encoder_folder_is_not_run(tmp_path, canary, tried, kind):
    folder = tmp_path / "encoder"
    toy_model().encoder.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "evil.py").write_text(module(canary))
    changed(folder / "config.json", auto_map=AUTO, model_type=kind, trust_remote_code=True)
    changed(folder / "tokenizer_config.json", auto_map=AUTO, trust_remote_code=True)
    chosen = EncoderConfig(path=str(folder))
    for load in (architecture_of, weights_of, tokenizer_of):
        try:
            load(chosen)
        except EncoderError as error:
            assert kind == "evil"
            assert "cannot be loaded" in str(error)
    assert not canary.exists()
    tried(3, "not run")


@pytest.mark.fault("S2")
def test_code_of_a_model_folder_is_not_run(tmp_path, canary, tried):
    folder = tmp_path / "model"
    toy_model().save_pretrained(folder)
    (folder / "evil.py").write_text(module(canary))
    encoder = json.loads((folder / "config.json").read_text())["encoder"]
    own = {"auto_map": AUTO, "trust_remote_code": True}
    changed(folder / "config.json", **own, encoder={**encoder, **own})
    load_model(folder)
    architecture_of(EncoderConfig(path=str(folder)))
    assert not canary.exists()
    tried(2, "not run")


@pytest.mark.fault("S2")
def test_a_script_of_a_data_set_is_not_run(tmp_path, canary, tried):
    write_toy_experiment(tmp_path / "toy")
    folder = tmp_path / "toy/evil"
    folder.mkdir()
    (folder / "evil.py").write_text(module(canary))
    definition = tmp_path / "toy/tasks/nli.yaml"
    text = definition.read_text()
    definition.write_text(re.sub(r"data:\n(  .*\n)+", f"data:\n  hub: {{path: {folder}}}\n", text))
    source = find_source(load_tasks(tmp_path / "toy/tasks")["nli"], "train")
    with pytest.raises(DataError, match="cannot be loaded"):
        list(source.rows(Faults()))
    assert not canary.exists()
    tried(1, "not run")


@pytest.mark.fault("S2")
def test_no_file_can_switch_remote_code_on(tmp_path, tried):
    path = write_toy_experiment(tmp_path / "toy")
    whole = path.read_text()
    path.write_text(whole.replace("path: tiny,", "path: tiny, trust_remote_code: true,"))
    with pytest.raises(ConfigError, match="trust_remote_code"):
        load_experiment(path)
    definition = tmp_path / "toy/tasks/nli.yaml"
    text = re.sub(r"data:\n(  .*\n)+", "data:\n  hub: {path: a/b, trust_remote_code: true}\n", definition.read_text())
    definition.write_text(text)
    with pytest.raises(MtdnnError, match="trust_remote_code"):
        load_tasks(tmp_path / "toy/tasks")["nli"]
    tried(2, "refused as an unknown key")


# Both misses, timed without the imports, with a hub that never answers or that refuses.
MISSES = """
import sys, time
import datasets, transformers.models.bert
from mtdnn.config import EncoderConfig
from mtdnn.data.sources import load_hub
from mtdnn.errors import DataError, EncoderError
from mtdnn.pretrained import config_of
from mtdnn.tasks import HubLayout

for load, kind in (
    (lambda: config_of(EncoderConfig(path="nobody/encoder")), EncoderError),
    (lambda: load_hub(HubLayout(path="nobody/data"), "train"), DataError),
):
    started, worked = time.monotonic(), time.process_time()
    try:
        load()
    except kind as error:
        print(f"{time.monotonic() - started:.3f} {time.process_time() - worked:.3f} {error}")
"""


@pytest.mark.fault("S2")
@pytest.mark.parametrize("endpoint", ["http://10.255.255.1", "http://127.0.0.1:9"], ids=["silent", "refusing"])
def test_a_hub_that_is_not_there_is_noticed_at_once(tmp_path, tried, endpoint):
    environment = {**own_process(), "HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    without_proxy = {name: value for name, value in environment.items() if "proxy" not in name.casefold()}
    command = [sys.executable, "-c", MISSES]
    done = subprocess.run(command, env=without_proxy, capture_output=True, text=True, check=True)
    encoder, data = done.stdout.splitlines()
    assert "local folder" in encoder
    assert "--data-dir" in data
    seconds, worked = zip(*(map(float, line.split()[:2]) for line in (encoder, data)), strict=True)
    assert WAIT + max(worked) < 1  # what a miss takes on a machine that does nothing else
    assert max(seconds) < 3  # retries take tens
    tried(2, f"{max(seconds):.1f} s at most")
