"""Recorded dropout is torch's own: the same rate, the same scale, the same attention; and it can be replayed."""

import math
import weakref

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mtdnn import dropout, recompute
from mtdnn.dropout import LEVELS, DropoutTape, draw_mask

RATES = (0.1, 0.3, 0.5)


@pytest.fixture
def all_again(monkeypatch):
    """Tensors of any size are computed again."""
    monkeypatch.setattr(DropoutTape, "recomputes_from", 0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", RATES)
def test_as_many_are_kept_as_torch_keeps(rate):
    count = 400_000
    ours = int(draw_mask(torch.Size([count]), round(rate * LEVELS), generator()).sum())
    torch.manual_seed(0)
    theirs = int((F.dropout(torch.ones(count), rate) != 0).sum())
    for kept in (ours, theirs):
        assert stats.binomtest(kept, count, 1 - rate).pvalue > 1e-4


@pytest.mark.parametrize("rate", RATES)
def test_neighbours_are_dropped_independently(rate):
    """Four elements share one draw of 64 bits."""
    mask = draw_mask(torch.Size([400_000]), round(rate * LEVELS), generator()).double()
    for distance in (1, 2, 3, 4):
        found = torch.corrcoef(torch.stack([mask[:-distance], mask[distance:]]))[0, 1]
        assert abs(found.item()) < 4.5 / math.sqrt(len(mask))


@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    rate=st.floats(0.01, 0.99),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_what_is_kept_is_scaled_and_the_rest_is_zero_forward_and_backward(shape, rate, dtype):
    values = torch.ones(shape, dtype=dtype, requires_grad=True)
    with DropoutTape(generator()) as tape:
        out = F.dropout(values, rate, training=True)
    out.sum().backward()
    (mask,) = tape.masks
    level = round(rate * LEVELS)
    expected = (mask.double() / (1 - level / LEVELS)).to(dtype)
    assert out.dtype == values.grad.dtype == dtype
    torch.testing.assert_close(out, expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=0)
    assert torch.equal(out, values.grad)


def test_it_has_second_derivatives():
    values = torch.ones(50, dtype=torch.float64, requires_grad=True)
    with DropoutTape(generator()) as tape:
        out = F.dropout(values, 0.5).pow(3).sum()
        (first,) = torch.autograd.grad(out, values, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), values)
    torch.testing.assert_close(second, 6 * 8.0 * tape.masks[0].double())


def test_a_replay_gives_the_same_and_another_shape_is_refused():
    values = torch.randn(6, 5, generator=generator(1))
    with DropoutTape(generator()) as tape:
        out = F.dropout(values, 0.3)
    with tape.again(0):
        assert torch.equal(F.dropout(values, 0.3), out)
    with tape.again(0), pytest.raises(RuntimeError, match="out of step"):
        F.dropout(values[:3], 0.3)


def attention_inputs():
    draw = generator(2)
    query, key, value = (torch.randn(2, 3, 5, 4, generator=draw, dtype=torch.float64) for _ in range(3))
    keep = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)[:, None, None, :]
    return query, key, value, keep


@pytest.mark.parametrize("kind", ["none", "bool", "added"])
def test_attention_with_nothing_dropped_is_torch_s(kind):
    query, key, value, keep = attention_inputs()
    added = torch.zeros(keep.shape, dtype=torch.float64).masked_fill(~keep, -torch.inf)
    mask = {"none": None, "bool": keep, "added": added}[kind]
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    with DropoutTape(generator()) as tape:
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=1e-9)
    assert tape.masks[0].all()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_attention_s_own_mask_is_dropped_from_its_weights():
    query, key, value, keep = attention_inputs()
    with DropoutTape(generator()) as tape:
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=keep, dropout_p=0.4)
    weights = (query @ key.mT / 2.0).masked_fill(~keep, -torch.inf).softmax(-1)
    scale = 1 - round(0.4 * LEVELS) / LEVELS
    torch.testing.assert_close(found, weights * tape.masks[0] / scale @ value, rtol=1e-12, atol=1e-14)


def test_two_masks_in_one_pass_are_told_apart():
    query, key, value, keep = attention_inputs()
    with DropoutTape(generator()) as tape:
        for mask in (keep, ~keep.flip(0) | keep):
            found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=1e-9)
            expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert len(tape.masks) == 2


def block(query, key, value, weight, keep):
    """Attention, and a product of what GELU gives, as in every layer."""
    with DropoutTape(generator()):
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=keep, dropout_p=0.3)
        return F.linear(F.gelu(out), weight)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.usefixtures("all_again")
def test_what_is_computed_again_has_the_gradients_of_what_is_kept(order):
    query, key, value, keep = attention_inputs()
    inputs = [each.clone().requires_grad_() for each in (query, key, value, torch.randn(6, 4, dtype=torch.float64))]
    check = torch.autograd.gradcheck if order == 1 else torch.autograd.gradgradcheck
    assert check(lambda *given: block(*given, keep), inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("off", [False, True])
@pytest.mark.usefixtures("all_again")
def test_what_is_computed_again_changes_no_bit(dtype, off, monkeypatch):
    """Under autocast too, whose casts the backward pass would not make by itself."""

    def gradients():
        torch.manual_seed(0)
        query, key, value = (torch.randn(2, 3, 5, 4, requires_grad=True) for _ in range(3))
        weight = torch.randn(6, 4, requires_grad=True)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32), DropoutTape(generator(), off=off):
            out = F.scaled_dot_product_attention(query, key, value, dropout_p=0.3)
            out = F.linear(F.gelu(out), weight)
        graph = [torch.autograd.grad(out.sum(), (query, key, value, weight), retain_graph=True) for _ in range(2)]
        return [out, *graph[0], *graph[1]]

    again = gradients()
    monkeypatch.setattr(DropoutTape, "recomputes_from", math.inf)
    assert all(torch.equal(one, other) for one, other in zip(again, gradients(), strict=True))


@pytest.mark.parametrize(("recomputes_from", "kept"), [(4 * 3 * 50 * 8, 0), (4 * 3 * 50 * 8 + 1, 1), (2**18, 3)])
def test_neither_large_weights_nor_much_of_what_gelu_gives_are_kept(recomputes_from, kept, monkeypatch):
    monkeypatch.setattr(DropoutTape, "recomputes_from", recomputes_from)  # bytes of one of two rows
    query, key, value = (torch.randn(2, 3, 50, 4, requires_grad=True) for _ in range(3))
    inner, outer = torch.randn(8, 4, requires_grad=True), torch.randn(4, 8, requires_grad=True)
    seen = {}

    def seeing(pack, unpack):
        def seen_pack(tensor):
            packed = pack(tensor)
            for each in packed.get() if isinstance(packed, recompute.Unchanged) else [packed]:
                if isinstance(each, torch.Tensor):
                    seen[each.data_ptr()] = each
            return packed

        return hooks(seen_pack, unpack)

    hooks = recompute.saved_tensors_hooks
    monkeypatch.setattr(recompute, "saved_tensors_hooks", seeing)
    with seeing(lambda tensor: tensor, lambda tensor: tensor), DropoutTape(generator()):
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=0.3)
        F.linear(F.gelu(F.linear(out, inner)), outer)
    weights, hidden = 2 * 3 * 50 * 50, 2 * 3 * 50 * 8
    counts = [tensor.numel() for tensor in seen.values() if tensor.is_floating_point()]
    assert counts.count(weights) + counts.count(hidden) == kept + 1  # what goes into GELU


@pytest.fixture
def made(monkeypatch):
    """Weak references to what may not outlive its use: dropped weights, GELU's output, what is computed again."""
    references = []

    def noted(compute):
        def made(*args, **kwargs):
            references.append(weakref.ref(out := compute(*args, **kwargs)))
            return out

        return made

    monkeypatch.setattr(dropout, "drop", noted(dropout.drop))
    monkeypatch.setattr(DropoutTape, "_gelu", noted(DropoutTape._gelu))
    monkeypatch.setattr(recompute.Again, "__call__", noted(recompute.Again.__call__))
    return references


@pytest.mark.usefixtures("all_again")
@pytest.mark.parametrize("wanted", [(0, 1, 2, 3), (0, 1), (1, 2), (0,)])
def test_what_is_computed_again_is_freed_at_once(wanted, made):
    query, key, value, keep = attention_inputs()
    inputs = [query, key, value, torch.randn(6, 4, dtype=torch.float64)]
    out = block(*(each.requires_grad_(place in wanted) for place, each in enumerate(inputs)), keep)
    out.sum().backward(retain_graph=True)
    assert len(made) >= 3
    assert all(each() is None for each in made)


@pytest.mark.usefixtures("all_again")
def test_two_linear_layers_share_what_gelu_gives(made):
    """As an adapter does beside the layer that it adapts."""
    values, first, second = (torch.randn(5, 5, requires_grad=True) for _ in range(3))
    with DropoutTape(generator()):
        activated = F.gelu(values * 1)
        out = F.linear(activated, first) + F.linear(activated, second)
        del activated
    assert all(each() is None for each in made)
    out.sum().backward()
    assert len(made) == 3
    assert all(each() is None for each in made)


@pytest.mark.usefixtures("all_again")
def test_a_change_in_place_before_the_product_is_seen():
    values, weight = torch.randn(5, 5, requires_grad=True), torch.randn(5, 5, requires_grad=True)
    keep = torch.rand(5, 5) < 0.5
    with DropoutTape(generator()):
        out = F.linear(F.gelu(values).masked_fill_(keep, 0.0), weight)
    expected = F.linear(F.gelu(values).masked_fill(keep, 0.0), weight)
    assert torch.equal(*(torch.autograd.grad(each.sum(), weight)[0] for each in (out, expected)))


@pytest.mark.usefixtures("all_again")
@pytest.mark.parametrize("changed", range(4))
def test_a_change_in_place_before_the_backward_pass_is_refused(changed):
    query, key, value, _ = attention_inputs()
    added = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    weight = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    out = block(query.requires_grad_(), key, value.requires_grad_(), weight, added)
    with torch.no_grad():
        (query, value, weight, added)[changed].mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        out.sum().backward()
