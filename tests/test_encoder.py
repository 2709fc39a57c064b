"""Perturbation sites on every family, pooling, and where encoders come from."""

import socket
import time

import pytest
import torch
from support import FAMILIES, NLI, toy_batch, toy_model

from mtdnn import encoder as enc
from mtdnn import hub
from mtdnn.errors import ConfigError, EncoderError
from mtdnn.model import MultiTaskModel
from mtdnn.rng import Rng

RNG = Rng("test")
SITES = ["word", "embeddings", "layer:1", "layer:2"]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dropout", ["replay", "off"])
def test_a_perturbation_of_zero_gives_the_clean_logits_exactly(family, site, dropout):
    model, batch = toy_model(family).train(), toy_batch("nli")
    clean = model.run(batch, rng=RNG, sites=[site], dropout=dropout != "off")
    zero = torch.zeros_like(clean.hidden(site))
    again = model.resume(batch, clean, site=site, delta_NTD=zero, dropout=dropout)
    assert torch.equal(again, clean.logits)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_perturbation_changes_the_logits_and_its_gradient_reaches_every_real_token(family, site):
    model, batch = toy_model(family).train(), toy_batch("nli")
    clean = model.run(batch, rng=RNG, sites=[site])
    delta = (0.1 * torch.ones_like(clean.hidden(site))).requires_grad_()
    logits = model.resume(batch, clean, site=site, delta_NTD=delta)
    assert not torch.equal(logits, clean.logits)
    (gradient,) = torch.autograd.grad(logits.square().sum(), delta)
    per_token = gradient.abs().sum(-1)
    assert (per_token[batch.mask_NT == 1] > 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_masks_depend_on_the_name_alone(family):
    model, batch = toy_model(family).train(), toy_batch("nli")
    first, second = (model.run(batch, rng=RNG).logits for _ in range(2))
    other = model.run(batch, rng=RNG.at("other")).logits
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_independent_dropout_differs_from_the_clean_pass():
    model, batch = toy_model().train(), toy_batch("nli")
    clean = model.run(batch, rng=RNG, sites=["embeddings"])
    again = model.resume(batch, clean, site="embeddings", delta_NTD=None, dropout="independent", rng=RNG.at("second"))
    assert not torch.equal(again, clean.logits)


def test_the_word_site_is_what_inputs_embeds_takes():
    model, batch = toy_model().eval(), toy_batch("nli")
    clean = model.run(batch, sites=["word"])
    delta = 0.3 * torch.randn(clean.hidden("word").shape, generator=torch.Generator().manual_seed(0))
    ours = model.resume(batch, clean, site="word", delta_NTD=delta)
    words = model.encoder.get_input_embeddings()(batch.inputs_NT["input_ids"]) + delta
    inputs = {k: v for k, v in batch.inputs_NT.items() if k != "input_ids"}
    hidden = model.encoder(inputs_embeds=words, **inputs).last_hidden_state
    expected = model.head("nli")(model.pooler(hidden, batch.mask_NT), batch)
    torch.testing.assert_close(ours, expected)


def test_an_unknown_site_is_named_with_a_suggestion():
    model = toy_model()
    with pytest.raises(ConfigError, match=r"unknown site 'embedings'. Did you mean 'embeddings'\?"):
        model.run(toy_batch("nli"), sites=["embedings"])
    with pytest.raises(ConfigError, match="layers 1 to 2"):
        model.run(toy_batch("nli"), sites=["layer:3"])


def test_mean_pooling_ignores_padding():
    hidden = torch.tensor([[[1.0], [3.0], [100.0]]])
    pooled = enc.Pooler(kind="mean", hidden_size=1)(hidden, torch.tensor([[1, 1, 0]]))
    assert pooled.item() == 2.0  # (1 + 3) / 2


def test_native_pooling_is_berts_own_pooler():
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20)
    bert = BertModel(config).eval()
    pooler = enc.Pooler(kind="native", hidden_size=8, model_type="bert")
    pooler.dense.load_state_dict(bert.pooler.dense.state_dict())
    output = bert(input_ids=torch.tensor([[1, 5, 2]]))
    ours = pooler(output.last_hidden_state, torch.ones(1, 3))
    torch.testing.assert_close(ours, output.pooler_output)


def test_a_family_without_a_native_pooler_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match="'native' is not known for fnet encoders; use mean or first"):
        enc.Pooler(kind="native", hidden_size=8, model_type="fnet")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("package:no_such_package/model", "no installed Python package 'no_such_package'"),
        ("package:rich/nowhere", "holds no folder 'nowhere'"),
        ("package:rich/../..", "holds no folder"),
        ("some-org/some-model", "cannot be loaded"),
    ],
)
def test_an_encoder_that_is_not_there_is_said_at_once(path, message, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    started = time.monotonic()
    with pytest.raises(EncoderError, match=message):
        enc.load_config(path)
    assert time.monotonic() - started < 5  # a hang, not a speed


def test_an_encoder_in_the_hubs_cache_is_found_without_network(tmp_path, monkeypatch):
    from transformers import BertModel

    snapshot = tmp_path / "models--some-org--tiny" / "snapshots" / "abc"
    model = toy_model(tasks=(NLI,))
    bert = BertModel(model.encoder.config)
    bert.save_pretrained(snapshot)
    (tmp_path / "models--some-org--tiny" / "refs").mkdir()
    (tmp_path / "models--some-org--tiny" / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    loaded = MultiTaskModel.from_encoder("some-org/tiny", [NLI], pool="native")
    torch.testing.assert_close(
        loaded.encoder.state_dict()["embeddings.word_embeddings.weight"], bert.embeddings.word_embeddings.weight
    )
    torch.testing.assert_close(loaded.pooler.dense.weight, bert.pooler.dense.weight)


def saved_bert(folder, *, without):
    """A BERT checkpoint that lacks the weights whose names start so."""
    from safetensors.torch import load_file, save_file
    from transformers import BertModel

    BertModel(toy_model(tasks=(NLI,)).encoder.config).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith(without)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def test_a_pooler_that_the_checkpoint_lacks_starts_from_the_seed(tmp_path):
    path = saved_bert(tmp_path, without="pooler.")
    first, again = (MultiTaskModel.from_encoder(path, [NLI], pool="native", seed=1) for _ in range(2))
    other = MultiTaskModel.from_encoder(path, [NLI], pool="native", seed=2)
    assert torch.equal(first.pooler.dense.weight, again.pooler.dense.weight)
    assert not torch.equal(first.pooler.dense.weight, other.pooler.dense.weight)


def test_a_checkpoint_that_lacks_encoder_weights_is_refused(tmp_path):
    path = saved_bert(tmp_path, without="encoder.layer.1.attention.self.query")
    with pytest.raises(EncoderError, match=r"lacks 2 weights, such as encoder\.layer\.1\.attention\.self\.query"):
        MultiTaskModel.from_encoder(path, [NLI])


def test_a_proxy_that_does_not_answer_is_no_network(monkeypatch):
    asked = []

    def nobody(address, **kwargs):
        asked.append(address)
        raise OSError("refused")

    monkeypatch.setattr(socket, "create_connection", nobody)
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert not hub.hub_answers()
    assert asked == [("proxy.example", 3128)]


@pytest.mark.parametrize("name", ["train", "type", "eval"])
def test_a_task_may_be_called_what_a_module_may_not(name):
    model = toy_model(tasks=(NLI.model_copy(update={"name": name}),))
    assert model.head(name).output.out_features == 3
