"""Official MT-DNN checkpoints: the numbers of a plain computation with their weights, nothing lost, nothing run."""

import json
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from support import NLI, write_toy_data
from transformers import BertModel, RobertaConfig, RobertaModel

from mtdnn.data.batch import Batch
from mtdnn.errors import CheckpointError, ConfigError, EncoderError
from mtdnn.interop.import_mtdnn import import_checkpoint, row_order
from mtdnn.interop.official_checkpoint import STAND_INS, read_official
from mtdnn.model import load_model
from mtdnn.predictor import Predictor
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_config, tiny_tokenizer

HEADS = {"nli": 3, "sts": 1, "rank": 1}
PAIRS = [("the red cat", "a cat"), ("a dog", "the small dog sees a bird in the garden"), ("red", "red")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the toy tasks and an encoder's configuration and tokenizer."""
    folder = tmp_path_factory.mktemp("official")
    (folder / "tasks").mkdir()
    write_toy_data(folder / "tasks")
    tiny_config().save_pretrained(folder / "encoder")
    tiny_tokenizer().save_pretrained(folder / "encoder")
    return folder


@pytest.fixture
def network():
    """The official network's parts, random: the encoder with its pooler, and a linear layer a task."""
    torch.manual_seed(5)
    bert = BertModel(tiny_config(initializer_range=0.3)).eval()
    heads = [torch.nn.Linear(32, size) for size in HEADS.values()]
    return bert, heads


def state_of(network):
    bert, heads = network
    state = {f"bert.{name}": value for name, value in bert.state_dict().items()}
    for number, head in enumerate(heads):
        state |= {f"scoring_list.{number}.{name}": value for name, value in head.state_dict().items()}
    return state


def options_of(network):
    """The options of an official run, the encoder's configuration among them."""
    return {**network[0].config.to_dict(), "train_datasets": "mnli,stsb,qnnli", "max_seq_len": 64, "fp16": False}


def save(path, state, options, **kwargs):
    torch.save({"state": state, "optimizer": {"state": {}}, "config": options}, path, **kwargs)
    return path


def bring(folder, file, *, tasks="nli,sts,rank", out=None, encoder=""):
    """The imported model's folder and what was told."""
    registry = load_tasks(folder / "tasks")
    encoder = str(folder / "encoder") if encoder == "" else encoder
    return import_checkpoint(file, tasks=tasks, encoder=encoder, out=out or file.parent / "model", registry=registry)


def encoded():
    return tiny_tokenizer()(
        [a for a, _ in PAIRS], [b for _, b in PAIRS], padding=True, return_tensors="pt"
    ).convert_to_tensors()


@torch.inference_mode()
def plain_logits(network, number, pooler=None):
    """The first token of the last layer through the dense layer and tanh, then the head."""
    bert, heads = network
    dense = pooler or bert.pooler.dense
    first = bert(**encoded()).last_hidden_state[:, 0]
    return heads[number](torch.tanh(first @ dense.weight.T + dense.bias))


@torch.inference_mode()
def our_logits(model, task):
    ones = torch.ones(len(PAIRS), dtype=torch.int64)
    batch = Batch(task=task, uids=("",) * len(PAIRS), inputs_NT=dict(encoded()), num_rows_U=ones)
    logits = model(batch)
    return logits if logits.dim() == 2 else logits.unsqueeze(-1)


def as_2019(state):
    """As a DataParallel of the first versions named them."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    named = {}
    for name, value in state.items():
        for new, before in old.items():
            name = name.replace(new, before)
        named[f"module.{name}"] = value
    return OrderedDict(named)


def with_buffers(state):
    return {**state, "bert.embeddings.position_ids": torch.arange(512).unsqueeze(0)}


@pytest.mark.parametrize(
    ("change", "kwargs"),
    [
        (dict, {}),
        (with_buffers, {}),
        (as_2019, {"_use_new_zipfile_serialization": False}),
        (lambda state: {f"mnetwork.module.{name}": value for name, value in state.items()}, {}),
    ],
    ids=["2021", "buffers", "2019", "wrapped"],
)
def test_logits_are_those_of_a_plain_computation_with_the_checkpoint_s_weights(
    folder, network, tmp_path, change, kwargs
):
    file = save(tmp_path / "model.pt", change(state_of(network)), options_of(network), **kwargs)
    model = load_model(bring(folder, file)[0]).eval()
    for number, task in enumerate(HEADS):
        torch.testing.assert_close(our_logits(model, task), plain_logits(network, number), atol=1e-6, rtol=0)
    assert model.config.encoder_max_length == 64


def test_the_network_s_own_pooler_replaces_the_encoder_s(folder, network, tmp_path):
    own = torch.nn.Linear(32, 32)
    state = {**state_of(network), "pooler.dense.weight": own.weight.data, "pooler.dense.bias": own.bias.data}
    path, told = bring(folder, save(tmp_path / "model.pt", state, options_of(network)))
    torch.testing.assert_close(our_logits(load_model(path).eval(), "nli"), plain_logits(network, 0, own))
    assert "bert.pooler left out: the heads read the network's own pooler" in told
    options = {**options_of(network), "pooler_actf": "relu"}
    with pytest.raises(CheckpointError, match="pooler_actf: the heads read a relu"):
        bring(folder, save(tmp_path / "relu.pt", state, options), out=tmp_path / "other")


def test_the_configuration_comes_from_the_checkpoint_where_no_encoder_is_given(folder, network, tmp_path):
    options = {**options_of(network), "bert_model_type": str(folder / "encoder"), "layer_norm_eps": 0.5}
    path, _ = bring(folder, save(tmp_path / "model.pt", state_of(network), options), encoder=None)
    model = load_model(path)
    assert (model.encoder.config.layer_norm_eps, model.encoder.config.num_attention_heads) == (0.5, 2)
    assert Predictor.load(path).tokenizer.vocab_size == tiny_tokenizer().vocab_size


def test_an_encoder_that_is_not_the_checkpoint_s_is_refused(folder, network, tmp_path):
    options = {**options_of(network), "num_attention_heads": 4, "hidden_act": "relu"}  # neither changes a shape
    with pytest.raises(ConfigError) as caught:
        bring(folder, save(tmp_path / "model.pt", state_of(network), options))
    assert "--encoder: num_attention_heads: 2, but 4 in the checkpoint" in str(caught.value)
    assert "--encoder: hidden_act: gelu, but relu in the checkpoint" in str(caught.value)


def test_roberta_too_gives_the_logits_of_a_plain_computation(folder, tmp_path):
    sizes = {"vocab_size": 700, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = RobertaConfig(
        **sizes, intermediate_size=64, max_position_embeddings=66, type_vocab_size=1, initializer_range=0.3
    )
    torch.manual_seed(5)
    roberta, head = RobertaModel(config).eval(), torch.nn.Linear(32, 3)
    state = {f"bert.{name}": value for name, value in roberta.state_dict().items()}
    state |= {f"scoring_list.0.{name}": value for name, value in head.state_dict().items()}
    options = {**config.to_dict(), "bert_model_type": str(folder / "encoder")}
    path, _ = bring(folder, save(tmp_path / "model.pt", state, options), tasks="nli", encoder=None)
    model = load_model(path).eval()
    inputs = {name: value for name, value in encoded().items() if name != "token_type_ids"}
    with torch.inference_mode():
        expected = head(roberta(**inputs).pooler_output)
    torch.testing.assert_close(our_logits(model, "nli"), expected, atol=1e-6, rtol=0)
    assert model.config.encoder_max_length == 64


def official_classes(monkeypatch):
    """Classes with the official names, for pickling alone: they are gone when the file is read."""

    class TaskDef(dict):
        def __init__(self, **given):
            super().__init__({name: repr(value) for name, value in given.items()})
            self.__dict__.update(given)

    class Vocabulary:
        def __init__(self, words):
            self.neat, self.tok2ind = True, {word: index for index, word in enumerate(words)}

    class EncoderModelType:
        def __init__(self, value):
            self.value = value

        def __reduce__(self):
            return type(self), (self.value,)

    places = {TaskDef: "experiments.exp_def", Vocabulary: "data_utils.vocab", EncoderModelType: "data_utils.task_def"}
    for made, module in places.items():
        made.__module__, made.__qualname__ = module, made.__name__
        monkeypatch.setitem(sys.modules, module, types.ModuleType(module))
        setattr(sys.modules[module], made.__name__, made)
        monkeypatch.setitem(sys.modules, module.split(".")[0], types.ModuleType(module.split(".")[0]))
    return TaskDef, Vocabulary, EncoderModelType


def test_rows_follow_the_label_words_that_the_checkpoint_holds(folder, network, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        task_def, vocabulary, encoder_type = official_classes(patch)
        words = vocabulary(["yes", "no", "maybe"])
        task_defs = [task_def(label_vocab=words, n_class=3), task_def(label_vocab=None), task_def(label_vocab=None)]
        options = {**options_of(network), "task_def_list": task_defs, "encoder_type": encoder_type(1)}
        file = save(tmp_path / "model.pt", state_of(network), options)
    assert "experiments.exp_def" not in sys.modules
    path, told = bring(folder, file)
    assert "head 0 ('mnli' in the checkpoint) is task 'nli', its outputs taken as yes, no, maybe" in told
    assert not any("swap" in line for line in told)
    expected = plain_logits(network, 0)[:, [1, 2, 0]]  # no, maybe, yes as the task has them
    torch.testing.assert_close(our_logits(load_model(path).eval(), "nli"), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("task", "rows", "order"),
    [
        ("mnli", 3, [2, 1, 0]),  # ours: entailment, neutral, contradiction; the official code's the other way round
        ("rte", 2, [1, 0]),
        ("scitail", 2, [0, 1]),
        ("wnli", 2, [0, 1]),
        ("mrpc", 2, [0, 1]),
        ("sst5", 5, [0, 1, 2, 3, 4]),
        ("wikiqa", 1, [0]),
        ("stsb", 1, [0]),
    ],
)
def test_rows_of_well_known_labels_are_in_the_official_order(task, rows, order):
    assert row_order(load_tasks()[task], [], rows=rows)[0] == order


def test_words_that_are_not_the_task_s_labels_are_refused():
    with pytest.raises(ValueError, match="unknown label 'entails'"):
        row_order(NLI, ["no", "maybe", "entails"], rows=3)
    with pytest.raises(ValueError, match="labels no, no, yes in the checkpoint, no, maybe, yes in the task"):
        row_order(NLI, ["no", "no", "yes"], rows=3)


def test_heads_that_are_not_named_are_told_and_a_dash_leaves_one_out(folder, network, tmp_path):
    file = save(tmp_path / "model.pt", state_of(network), options_of(network))
    path, told = bring(folder, file, tasks="-,sts")
    model = load_model(path).eval()
    assert list(model.task_defs) == ["sts"]
    torch.testing.assert_close(our_logits(model, "sts"), plain_logits(network, 1), atol=1e-6, rtol=0)
    assert "head 0 ('mnli' in the checkpoint) left out: --tasks does not name it" in told
    assert "head 2 ('qnnli' in the checkpoint) left out: --tasks does not name it" in told
    assert any("swap text_a and text_b" in line for line in told)


def test_every_head_that_does_not_fit_is_named_with_its_task(folder, network, tmp_path):
    state = state_of(network)
    del state["scoring_list.1.weight"], state["scoring_list.1.bias"]
    state["scoring_list.1.rnn.weight_ih"] = torch.zeros(96, 32)
    file = save(tmp_path / "model.pt", state, options_of(network))
    with pytest.raises(CheckpointError) as caught:
        bring(folder, file, tasks="rank,sts,nli,cola")
    for part in (
        "head 0 for task 'rank': outputs: 3 in the checkpoint, 1 in the ranking head",
        "head 1 for task 'sts': not one linear layer but rnn.weight_ih",
        "head 2 for task 'nli': outputs: 1 in the checkpoint, 3 in the classification head (no, maybe, yes)",
        "head 3 for task 'cola': the checkpoint has no such head",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_missing_unexpected_and_misshapen_tensors_stand_in_one_error(folder, network, tmp_path):
    state = state_of(network)
    del state["bert.encoder.layer.1.output.dense.bias"]
    del state["bert.pooler.dense.weight"]
    state["bert.embeddings.word_embeddings.weight"] = torch.zeros(7, 32)
    state["bert.encoder.layer.2.output.dense.bias"] = torch.zeros(32)
    state["mask_lm_header.nsp.bias"] = torch.zeros(2)
    state["scoring_list.last.bias"] = torch.zeros(2)
    file = save(tmp_path / "model.pt", state, options_of(network))
    with pytest.raises(CheckpointError) as caught:
        bring(folder, file)
    for part in (
        "faults: 6",
        "missing: encoder.encoder.layer.1.output.dense.bias [32]",
        "missing: pooler.dense.weight [32, 32]",
        "shape: encoder.embeddings.word_embeddings.weight is [7, 32] in the checkpoint",
        "unexpected: encoder.encoder.layer.2.output.dense.bias",
        "unexpected: mask_lm_header.nsp.bias [2]",
        "unexpected: scoring_list.last.bias",
    ):
        assert part in str(caught.value)


def test_the_same_tensor_under_two_names_is_refused(folder, network, tmp_path):
    state = state_of(network)
    state["module.scoring_list.0.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"'scoring_list.0.bias' stands twice, once as 'module\."):
        bring(folder, save(tmp_path / "model.pt", state, options_of(network)))


def test_an_encoder_alone_needs_no_heads_and_no_pooler(folder, network, tmp_path):
    state = {name: value for name, value in state_of(network).items() if ".pooler." not in name}
    path, told = bring(folder, save(tmp_path / "model.pt", state, options_of(network)), tasks="")
    model = load_model(path)
    assert len(model.heads) == 0
    assert "the checkpoint has no pooler: a fresh one is in its place" in told
    for name, value in model.encoder.state_dict().items():
        torch.testing.assert_close(value, state[f"bert.{name}"], atol=0, rtol=0)


class Malicious:
    """Calls a function of the attacker's choice when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("place", ["config", "state", "optimizer"])
@pytest.mark.parametrize("name", ["posix.system", "eval", "subprocess.call", "pathlib.Path.touch"])
def test_code_in_a_checkpoint_is_not_run_and_is_named(folder, network, tmp_path, name, place, zipped):
    import os
    import subprocess

    marker = tmp_path / "marker"
    attack = {
        "posix.system": Malicious(os.system, f"touch {marker}"),
        "eval": Malicious(eval, f"open({str(marker)!r}, 'w')"),
        "subprocess.call": Malicious(subprocess.call, ["touch", str(marker)]),
        "pathlib.Path.touch": Malicious(Path.touch, marker),
    }[name]
    content = {"state": state_of(network), "config": options_of(network), "optimizer": {}}
    content[place] = {**content[place], "attack": attack}
    torch.save(content, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="was not read") as caught:
        bring(folder, tmp_path / "bad.pt")
    assert "'config': {numbers and words" in str(caught.value)
    assert not marker.exists()
    assert not (tmp_path / "model").exists()


def test_a_plain_pickle_with_code_is_not_run_either(folder, tmp_path):
    import os

    marker = tmp_path / "marker"
    (tmp_path / "bad.pt").write_bytes(pickle.dumps(Malicious(os.system, f"touch {marker}")))
    with pytest.raises(CheckpointError):
        bring(folder, tmp_path / "bad.pt")
    assert not marker.exists()


def test_stand_ins_hold_what_they_are_given_and_import_nothing(network, tmp_path):
    import argparse

    import numpy as np

    options = {**options_of(network), "args": argparse.Namespace(lr=1), "best": np.float64(0.5)}
    found = read_official(save(tmp_path / "model.pt", state_of(network), options))
    assert found.options["args"].state == {"lr": 1}
    assert type(found.options["best"]).__module__ == "mtdnn.interop.official_checkpoint"
    assert not any(name.startswith(("os.", "posix.", "builtins.", "subprocess.", "torch.")) for name in STAND_INS)
    assert not any(
        isinstance(known, tuple) and known[1] in STAND_INS for known in torch.serialization.get_safe_globals()
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a checkpoint", "not a whole file of torch.save"),
        (b"", "not a whole file of torch.save"),
        (None, "no such file"),
        ({"model": {}}, "no 'state' that holds tensors by name, as the official code saves it; got model"),
        ({"state": {"bert.a": 3}}, "no 'state' that holds tensors"),
        ([1, 2], "no 'state' that holds tensors by name, as the official code saves it; got list"),
    ],
)
def test_what_is_no_official_checkpoint_is_refused(folder, tmp_path, content, message):
    file = tmp_path / "model.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CheckpointError, match=message):
        bring(folder, file)


def test_a_file_cut_off_in_the_middle_is_refused(folder, network, tmp_path):
    for zipped in (True, False):
        file = save(
            tmp_path / "model.pt", state_of(network), options_of(network), _use_new_zipfile_serialization=zipped
        )
        whole = file.read_bytes()
        for length in (1, 100, len(whole) // 2, len(whole) - 200):
            file.write_bytes(whole[:length])
            with pytest.raises(CheckpointError):
                bring(folder, file)


def test_what_the_options_do_not_tell_is_asked_for(folder, network, tmp_path):
    options = {**options_of(network), "bert_model_type": str(folder / "encoder")}
    for key, error, message in (
        ("hidden_size", ConfigError, "no number for hidden_size; give --encoder"),
        ("bert_model_type", ConfigError, "which tokenizer"),
    ):
        less = {name: value for name, value in options.items() if name != key}
        with pytest.raises(error, match=message):
            bring(folder, save(tmp_path / "model.pt", state_of(network), less), encoder=None)
    for change, error, message in (
        ({"model_type": "xlnet"}, ConfigError, "xlnet encoders cannot be imported; these can: bert, roberta"),
        ({"model_type": None, "encoder_type": 7}, ConfigError, "encoder_type 7 encoders cannot be imported"),
        ({"bert_model_type": "no/where"}, EncoderError, "the tokenizer: .*--encoder says where it is"),
        ({"vocab_size": 7}, EncoderError, "words, the encoder 7"),
    ):
        with pytest.raises(error, match=message):
            bring(folder, save(tmp_path / "model.pt", state_of(network), {**options, **change}), encoder=None)


def test_wrong_tasks_and_a_folder_that_is_there_are_refused_before_anything_is_read(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"--tasks\[1\]: unknown task 'nlu'\. Did you mean"):
        bring(folder, tmp_path / "none.pt", tasks="sts,nlu")
    with pytest.raises(ConfigError, match="nli stands twice"):
        bring(folder, tmp_path / "none.pt", tasks="nli,nli")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/kept.txt").write_text("kept")
    with pytest.raises(ConfigError, match="is there already"):
        bring(folder, tmp_path / "none.pt")
    assert (tmp_path / "model/kept.txt").read_text() == "kept"


def test_from_the_command_line_to_predictions_and_metrics(folder, network, tmp_path, mtdnn):
    file = save(tmp_path / "model.pt", state_of(network), options_of(network))
    options = ("--encoder", folder / "encoder", "--task-defs", folder / "tasks", "--out", tmp_path / "model")
    code, out, err = mtdnn("import-mtdnn", file, "--tasks", "nli,sts,rank", *options)
    assert code == 0, err
    assert "head 0 ('mnli' in the checkpoint) is task 'nli'" in out
    assert f"--set encoder.path={tmp_path / 'model'}" in out
    source = folder / "tasks/nli-test.jsonl"
    code, out, _ = mtdnn("predict", tmp_path / "model", source, "--task", "nli,sts")
    assert code == 0
    assert [set(json.loads(line)) for line in out.splitlines()] == [{"nli", "sts"}] * 16
    code, out, _ = mtdnn("evaluate", tmp_path / "model", "--task", "nli", "--task-defs", folder / "tasks")
    assert code == 0
    assert "accuracy" in out
    code, _, err = mtdnn("import-mtdnn", file, *options)
    assert code == 3
    assert "is there already" in err
