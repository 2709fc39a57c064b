"""The answer module SAN against a float64 transcription of its formulas, and its prediction dropout."""

import copy

import numpy as np
import pytest
import torch
from heads.token_rows import batch_of
from reference import token_heads
from support import NLI, SAN, STS, TOY_TOKENS, toy_batch, toy_model
from torch.nn.functional import log_softmax

from mtdnn.errors import CheckpointError, ConfigError
from mtdnn.heads.base import build_head
from mtdnn.heads.san import GatedCell
from mtdnn.rng import Rng

ROWS = [(0, (1,), (2,)), (2, (1, 2), (3,))]  # of the toy batch: row, tokens of the premise, of the hypothesis


def head_of(**options):
    head = build_head(SAN.model_copy(update={"head": {"type": "san", **options}}), hidden_size=8).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return head


def hidden_of(batch):
    generator = torch.Generator().manual_seed(4)
    return torch.randn(*batch.mask_NT.shape, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_probabilities_are_the_mean_over_the_steps_of_the_formulas(steps):
    head, batch = head_of(steps=steps).eval(), toy_batch("san")
    hidden = hidden_of(batch)
    found = log_softmax(head(hidden, batch), -1).exp().detach().numpy()
    weights = {name: value.numpy() for name, value in head.state_dict().items()}
    for row, premise, hypothesis in ROWS:
        memory = hidden[row].numpy()
        expected = token_heads.san_probabilities(weights, memory[list(premise)], memory[list(hypothesis)], steps)
        np.testing.assert_allclose(found[row], expected, rtol=1e-12)


def test_the_cell_is_torch_s():
    cell, torchs = GatedCell(4).double(), torch.nn.GRUCell(4, 4).double()
    torchs.load_state_dict(
        {
            "weight_ih": cell.of_input.weight,
            "bias_ih": cell.of_input.bias,
            "weight_hh": cell.of_state.weight,
            "bias_hh": cell.of_state.bias,
        }
    )
    x, h = torch.randn(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(cell(x, h), torchs(x, h), rtol=1e-12, atol=1e-14)


def test_special_tokens_and_padding_are_not_read():
    head, batch = head_of().eval(), toy_batch("san")
    hidden = hidden_of(batch)
    moved = torch.where(batch.tokens_NT["text"].unsqueeze(-1) < 0, torch.randn_like(hidden), hidden)
    assert torch.equal(head(moved, batch), head(hidden, batch))


def test_prediction_dropout_leaves_out_whole_steps_and_never_all():
    head = head_of(steps=2, prediction_dropout=0.5)
    steps = torch.tensor([[0.9, 0.1], [0.3, 0.7]], dtype=torch.float64).log().expand(400, 2, 2)
    torch.manual_seed(0)
    found = log_softmax(head.train().averaged(steps), -1).exp()[:, 0]
    shares = {0.9: 1 / 4, 0.3: 1 / 4, 0.6: 1 / 2}  # the first alone, the second alone; both, or none and therefore both
    for value, share in shares.items():
        assert (torch.isclose(found, torch.tensor(value, dtype=torch.float64))).double().mean() == pytest.approx(
            share, abs=0.08
        )
    torch.testing.assert_close(head.eval().averaged(steps)[:, 0].exp() / 2, torch.full((400,), 0.6).double())


def test_prediction_dropout_is_replayed_with_the_other_masks():
    model, batch = toy_model(tasks=(NLI, SAN), dtype=torch.float64).train(), toy_batch("san")
    model.head("san").prediction_dropout.p = 0.5
    clean = model.run(batch, rng=Rng("one"), sites=["embeddings"])
    assert torch.equal(model.resume(batch, clean, site="embeddings", delta_NTD=None), clean.logits)
    assert not torch.equal(model.run(batch, rng=Rng("two")).logits, clean.logits)


def test_a_seed_decides_all_of_its_weights():
    model = toy_model(tasks=(SAN,))
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        model.heads["task_san"] = build_head(SAN, hidden_size=8)
        model.reset_heads(["san"], seed=5)
        states.append(copy.deepcopy(model.head("san").state_dict()))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_which_text_a_token_is_of_is_the_tokenizer_s_word(tmp_path):
    rows = [{"a": "Anna sells", "b": "the boat", "label": "no"}, {"a": "x", "b": "y", "label": "yes"}]
    batch = batch_of(tmp_path, SAN, rows)
    assert batch.tokens_NT["text"][0].tolist()[:3] == [-1, 0, 0]
    assert batch.tokens_NT["text"][1].tolist()[:5] == [-1, 0, -1, 1, -1]
    assert set(TOY_TOKENS["san"]) == set(batch.tokens_NT)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"inputs": NLI.inputs.model_copy(update={"text_b": None})}, "reads a pair of texts"),
        ({"head": {"type": "san", "steps": 0}}, "steps must be at least 1, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(update, message):
    with pytest.raises(ConfigError, match=message):
        build_head(SAN.model_copy(update=update))


def test_a_fresh_module_can_start_from_another_s():
    head, other = head_of(), build_head(SAN, hidden_size=8).double()
    other.copy_from(head, {"no": "no"})
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in head.state_dict().items())
    with pytest.raises(ValueError, match="cannot start from a RegressionHead"):
        other.copy_from(build_head(STS, hidden_size=8), {})


def test_a_checkpoint_with_another_head_for_the_task_is_refused():
    model = toy_model(tasks=(NLI,))
    with pytest.raises(CheckpointError, match=r"trained as classification with .* the definition says san"):
        model.with_tasks([SAN.model_copy(update={"name": "nli"})], seed=0)
