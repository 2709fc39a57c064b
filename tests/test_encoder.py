"""Perturbation sites on every family, pooling, and where encoders come from."""

import socket
import time
from dataclasses import replace

import pytest
import torch
from support import FAMILIES, LAYERED, NLI, toy_batch, toy_model
from transformers import AutoConfig, AutoModelForSequenceClassification

from mtdnn import encoder as enc
from mtdnn import hub
from mtdnn.data.batch import Batch, pad_rows
from mtdnn.errors import ConfigError, EncoderError
from mtdnn.model import MultiTaskModel
from mtdnn.rng import Rng

RNG = Rng("test")
SITES = ["word", "embeddings", "layer:1", "layer:2"]
PLACES = [(family, site) for family in FAMILIES for site in SITES if family in LAYERED or "layer" not in site]
EAGER = ("deberta-v2", "mpnet")  # transformers has no other kernel for them
ONE_TYPE = ("distilbert", "mpnet", "deberta-v2", "modernbert")  # by their configurations here


@pytest.mark.parametrize(("family", "site"), PLACES)
@pytest.mark.parametrize("dropout", ["replay", "off"])
def test_a_perturbation_of_zero_gives_the_clean_logits_exactly(family, site, dropout):
    model, batch = toy_model(family).train(), toy_batch("nli")
    clean = model.run(batch, rng=RNG, sites=[site], dropout=dropout != "off")
    zero = torch.zeros_like(clean.hidden(site))
    again = model.resume(batch, clean, site=site, delta_NTD=zero, dropout=dropout)
    assert torch.equal(again, clean.logits)


@pytest.mark.parametrize(("family", "site"), PLACES)
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


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_takes_the_fused_attention_where_it_has_one(family):
    assert toy_model(family).encoder.config._attn_implementation == ("eager" if family in EAGER else "sdpa")


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_on_the_right_changes_no_logits(family):
    """A row alone, and the same row beside a longer one, with the family's own padding token."""
    model = toy_model(family, pool="native", pad_token_id=0).eval()
    short, long = [1, 5, 6, 2], [1, 7, 8, 9, 10, 11, 2]

    def logits(*rows):
        batch = Batch(task="nli", uids=(), inputs_NT=pad_rows(rows, [], pad_id=0), num_rows_U=torch.ones(len(rows)))
        return model(batch)

    torch.testing.assert_close(logits(short, long)[:1], logits(short), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_token_types_reach_the_families_that_have_them_and_no_other(family):
    model, batch = toy_model(family, pool="native").eval(), toy_batch("nli")
    swapped = {**batch.inputs_NT, "token_type_ids": 1 - batch.inputs_NT["token_type_ids"]}
    same = torch.equal(model(batch), model(replace(batch, inputs_NT=swapped)))
    assert same is (family in ONE_TYPE)


@pytest.mark.parametrize("family", FAMILIES)
def test_native_pooling_is_the_stock_classifiers_own(family):
    """The stock classifier with our weights copied by hand, layer by layer, into where its own forward reads them."""
    model, batch = toy_model(family, pool="native", pad_token_id=0).eval(), toy_batch("nli")
    config = AutoConfig.for_model(**{**model.config.encoder, "num_labels": 3})
    stock = AutoModelForSequenceClassification.from_config(config).eval()
    getattr(stock, stock.base_model_prefix).load_state_dict(model.encoder.state_dict(), strict=False)
    ours = [*model.pooler.parameters(), *model.head("nli").output.parameters()]
    theirs = [
        weight
        for name, weight in stock.named_parameters()
        if "pooler" in name or not name.startswith(f"{stock.base_model_prefix}.")
    ]
    in_order = sorted(theirs, key=lambda weight: len(weight) == 3)  # the last layer's after the others
    with torch.no_grad():
        for weight, value in zip(in_order, ours, strict=True):
            weight.copy_(value)
    wanted = (
        batch.inputs_NT if family not in ONE_TYPE else {k: v for k, v in batch.inputs_NT.items() if "type" not in k}
    )
    torch.testing.assert_close(stock(**wanted).logits, model(batch))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("t5", "is a t5 model, an encoder with a decoder"),
        ("gpt2", "is a gpt2 model, whose tokens see only those before them"),
        ("xlnet", "is a xlnet model, whose tokens see only those before them"),
        ("mtdnn", "is a multi-task model, not an encoder"),
    ],
)
def test_what_is_no_encoder_is_refused_with_the_reason(kind, message, tmp_path):
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=message):
        enc.load_config(str(tmp_path))


def test_an_encoder_that_was_set_to_decode_is_refused(tmp_path):
    AutoConfig.for_model("bert", is_decoder=True).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="see only those before them"):
        enc.load_config(str(tmp_path))


@pytest.mark.parametrize("kind", ["fnet", "camembert", "deberta", "mobilebert", "nystromformer", "squeezebert"])
def test_other_encoders_are_let_through(kind, tmp_path):
    AutoConfig.for_model(kind).save_pretrained(tmp_path)
    assert enc.load_config(str(tmp_path)).model_type == kind


def test_layers_that_share_their_weights_are_no_sites():
    with pytest.raises(EncoderError, match=r"no list of 2 layers found .* use site: word or embeddings"):
        toy_model("albert").run(toy_batch("nli"), sites=["layer:1"])


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
