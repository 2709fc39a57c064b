"""SMART's other options against torch's autograd and hand numbers: sites, forms, steepest ascent, [B], presets."""

# Shape suffixes: B = token sequences (rows), T = tokens, D = width, U = units.

import numpy as np
import pytest
import torch

from . import bert, smart
from .test_reference import (
    EPS,
    GROUP_B,
    HEADS,
    IDS_BT,
    KINDS,
    MASK_BT,
    PARAMETERS,
    SEGMENTS_BT,
    B,
    C,
    D,
    T,
    TorchModel,
    linear_score,
    noise,
    outputs_of,
    reference_of,
    start_sign,
)

SITES = ["word", "embeddings", "layer:1", "layer:2", "embeddings_twice"]
FORMS = ["symmetric_kl", "kl", "js", "squared"]
ROWS_OF_GROUPS = [torch.tensor([1]), torch.tensor([0, 2])]
ARGUMENTS = {
    "token_type_ids": torch.tensor(SEGMENTS_BT),
    "attention_mask": torch.tensor(MASK_BT),
}


def real_noise(scale, seed=1):
    return noise(scale, seed) * MASK_BT[:, :, None]


def units_of(kind):
    return smart.unit_of_row_B(GROUP_B) if kind == "ranking" else np.arange(B)


def logits_at(weights, delta_BTD, site="embeddings", embeddings_BTD=None):
    arguments = (IDS_BT, SEGMENTS_BT, MASK_BT, HEADS, EPS, site, delta_BTD)
    hidden_BTD = bert.hidden_with(weights, *arguments, embeddings_BTD=embeddings_BTD)
    return bert.linear(weights, "head", bert.mean_pool(hidden_BTD, MASK_BT))


def torch_block(model):
    positions = torch.arange(T)[None]
    return model.bert.embeddings(
        torch.tensor(IDS_BT), token_type_ids=ARGUMENTS["token_type_ids"], position_ids=positions
    )


def torch_head(model, hidden_BTD):
    real_BT1 = torch.tensor(MASK_BT)[:, :, None]
    return model.head((hidden_BTD * real_BT1).sum(1) / real_BT1.sum(1))


def torch_twice(model, delta_BTD):
    hidden_BTD = model.bert(inputs_embeds=torch_block(model) + delta_BTD, **ARGUMENTS).last_hidden_state
    return torch_head(model, hidden_BTD)


def torch_at(model, delta_BTD, site):
    if site == "embeddings_twice":
        return torch_twice(model, delta_BTD)
    embeddings = model.bert.embeddings
    module = {"word": embeddings.word_embeddings, "embeddings": embeddings}.get(site)
    if module is None:
        module = model.bert.encoder.layer[int(site[-1]) - 1]

    def add(_, __, output):
        return (output[0] + delta_BTD, *output[1:]) if isinstance(output, tuple) else output + delta_BTD

    with module.register_forward_hook(add):
        return torch_head(model, model.hidden())


def torch_form(form, p, q):
    p, q = p.softmax(-1), q.softmax(-1)
    if form == "squared":
        return (p - q).square().sum(-1)
    kl = lambda a, b: (a * (a / b).log()).sum(-1)
    middle = (p + q) / 2
    return {
        "kl": kl(p, q),
        "symmetric_kl": kl(p, q) + kl(q, p),
        "js": (kl(p, middle) + kl(q, middle)) / 2,
    }[form]


def torch_divergence_U(kind, form, p, q):
    if kind == "regression":
        return (p - q).square().squeeze(-1)
    if kind == "classification":
        return torch_form(form, p, q)
    return torch.stack([torch_form(form, p[rows, 0], q[rows, 0]) for rows in ROWS_OF_GROUPS])


def torch_loss_U(kind, logits):
    """Labels 2, 0, 1; scores 0.3, -1, 2; right answers: rows 0 and 1 (group 4 is all right)."""
    if kind == "regression":
        return (logits[:, 0] - torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)).square()
    if kind == "classification":
        return torch.nn.functional.cross_entropy(logits, torch.tensor([2, 0, 1]), reduction="none")
    return torch.stack([0.0 * logits[1, 0], -logits[[0, 2], 0].log_softmax(0)[0]])


def loss_of(kind):
    def losses_U(logits):
        if kind == "regression":
            return (logits[:, 0] - np.array([0.3, -1.0, 2.0])) ** 2
        if kind == "classification":
            return -smart.log_softmax(logits)[np.arange(B), [2, 0, 1]]
        return np.array([0.0 * logits[1, 0], -smart.log_softmax(logits[[0, 2], 0])[0]])

    return losses_U


def close(found, expected, rel):
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=rel, atol=rel * np.abs(expected).max())


def check_weights(model, penalty, rel):
    """``penalty`` of the weights, beside the gradients that the torch model has collected."""
    weights = model.weights()
    for name, index in PARAMETERS:
        gradient = model.parameter(name).grad
        found = smart.parameter_gradient(penalty, weights, name, index)
        assert found == pytest.approx(gradient[index].item(), rel=rel, abs=rel * gradient.abs().max().item()), name


# Sites


@pytest.mark.parametrize("site", SITES)
def test_every_site_equals_transformers(site):
    model = TorchModel(C)
    delta = real_noise(0.3)
    close(logits_at(model.weights(), delta, site), torch_at(model, torch.tensor(delta), site), 1e-12)
    assert not np.allclose(logits_at(model.weights(), delta, site), logits_at(model.weights(), 0.0, site), atol=1e-3)


def test_only_embedding_twice_changes_the_model_at_delta_zero():
    weights = TorchModel(C).weights()
    clean = logits_at(weights, 0.0)
    for site in SITES:
        assert np.allclose(logits_at(weights, np.zeros((B, T, D)), site), clean, atol=1e-12) == (
            site != "embeddings_twice"
        )


@pytest.mark.parametrize("site", ["layer:0", "layer:3", "pooler"])
def test_a_site_that_is_not_there_is_refused(site):
    with pytest.raises((AssertionError, ValueError)):
        logits_at(TorchModel(C).weights(), 0.0, site)


# Forms of the divergence


@pytest.mark.parametrize("stop_gradient", ["none", "reference"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_forms_and_their_gradients_equal_autograd(kind, form, stop_gradient):
    model, delta = TorchModel(outputs_of(kind)), real_noise(0.3)
    clean = model(torch.zeros(B, T, D))
    clean = clean.detach() if stop_gradient == "reference" else clean
    expected = torch_divergence_U(kind, form, clean, model(torch.tensor(delta))).mean()
    expected.backward()
    divergence = smart.divergence_for(kind, group_B=GROUP_B, stop_gradient=stop_gradient, form=form)

    def penalty(weights):
        return smart.smart_penalty(lambda moved: logits_at(weights, moved), divergence, delta)

    close(penalty(model.weights()), expected, 1e-10)
    check_weights(model, penalty, 1e-9)


def test_forms_by_hand():
    # P = (3/4, 1/4), Q = (1/4, 3/4): KL = log(3)/2, M = (1/2, 1/2), squares 1/4 + 1/4.
    p, q = np.log([[0.75, 0.25]]) - 3.0, np.log([[0.25, 0.75]])
    js = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    expected = {"kl": np.log(3) / 2, "symmetric_kl": np.log(3), "js": js, "squared": 0.5}
    for form, value in expected.items():
        np.testing.assert_allclose(smart.form_U(form, p, q), [value], rtol=1e-14)


def test_kl_has_its_order_and_js_survives_underflow():
    p, q = np.log([[0.9, 0.1]]), np.log([[0.5, 0.5]])
    hand = 0.9 * np.log(1.8) + 0.1 * np.log(0.2)
    np.testing.assert_allclose(smart.kl_U(p, q), [hand], rtol=1e-14)
    assert smart.kl_U(q, p)[0] != pytest.approx(hand, rel=0.1)
    far = np.array([[0.0, -3000.0, -4000.0]]), np.array([[-3000.0, 0.0, -4000.0]])
    np.testing.assert_allclose(smart.js_U(*far), [np.log(2.0)], rtol=1e-14)


@pytest.mark.parametrize("form", ["kl", "js", "squared"])
def test_targets_are_for_the_symmetric_kl_only(form):
    with pytest.raises(AssertionError):
        smart.divergence_for("classification", form=form, stop_gradient="targets")(np.zeros((1, 2)), np.ones((1, 2)))


# Steepest ascent


@pytest.mark.parametrize(
    ("norm", "expected"), [("inf", [1.0, -1.0, 0.0]), ("2", [0.6, -0.8, 0.0]), ("1", [0.0, -1.0, 0.0])]
)
def test_steepest_direction_by_hand(norm, expected):
    gradient = np.array([[3.0, -4.0, 0.0]])
    found = smart.steepest_direction(gradient, norm)
    np.testing.assert_allclose(found, [expected], rtol=1e-14)
    dual = {"inf": 7.0, "2": 5.0, "1": 4.0}[norm]  # the largest <g, d> is the dual norm of g
    assert (gradient * found).sum() == pytest.approx(dual)
    np.testing.assert_array_equal(smart.steepest_direction(np.zeros((2, 2)), norm), np.zeros((2, 2)))


@pytest.mark.parametrize("norm", ["inf", "2", "1"])
def test_one_steepest_step_goes_up_within_the_ball_and_not_into_padding(norm):
    options = {"radius": 0.2, "num_steps": 1, "norm": norm, "ascent": "steepest"}
    divergence = smart.divergence_for("regression")
    start_BTD = noise(0.005)

    def ascend(step_size):
        return smart.ascend(linear_score, divergence, start_BTD, MASK_BT, step_size=step_size, **options)

    inside_BTD, outside_BTD = ascend(0.01), ascend(5.0)
    score_B, start_B = linear_score(inside_BTD), linear_score(real_noise(0.005))
    assert (score_B * start_sign()[:, 0, 0] > np.abs(start_B)).all()
    size = {"inf": np.abs(outside_BTD).max((1, 2)), "2": np.sqrt((outside_BTD**2).sum((1, 2)))}
    np.testing.assert_allclose(size.get(norm, np.abs(outside_BTD).sum((1, 2))), 0.2, rtol=1e-12)
    np.testing.assert_array_equal(inside_BTD[MASK_BT == 0], 0.0)


def test_given_clean_logits_take_the_place_of_those_at_zero():
    # score^2 climbs away from the clean score: from clean scores on the other side the way is the other one.
    options = {"radius": 1.0, "step_size": 0.1, "num_steps": 1, "norm": "inf"}
    divergence = smart.divergence_for("regression")
    for side in (-50.0, 50.0):
        found_BTD = smart.ascend(linear_score, divergence, noise(0.01), MASK_BT, clean=np.full(B, side), **options)
        assert (np.sign(linear_score(found_BTD - real_noise(0.01))) == -np.sign(side)).all()
    assert smart.smart_penalty(linear_score, divergence, np.zeros((B, T, D)), np.full(B, 2.0)) == 4.0


# Option [B]


def torch_error_U(kind, model, delta, gradient_at, site):
    """Per unit, with the graph of the second derivative; the delta's gradient reaches it too."""
    at = delta if gradient_at == "perturbed" else torch.zeros_like(delta).requires_grad_()
    moved = torch_loss_U(kind, torch_at(model, delta, site))
    still = torch_loss_U(kind, torch_at(model, torch.zeros_like(delta), site))
    (gradient,) = torch.autograd.grad(torch_loss_U(kind, torch_at(model, at, site)).sum(), at, create_graph=True)
    row_slopes_B = (delta * gradient).sum((1, 2))
    slopes_U = torch.stack([row_slopes_B[rows].sum() for rows in ROWS_OF_GROUPS]) if kind == "ranking" else row_slopes_B
    return (moved - still - slopes_U).abs()


@pytest.mark.parametrize("size", [0.3, 1e-2])
@pytest.mark.parametrize("gradient_at", ["perturbed", "clean"])
@pytest.mark.parametrize(
    ("kind", "site"), [("classification", "word"), ("regression", "layer:1"), ("ranking", "embeddings")]
)
def test_option_b_equals_double_backward(kind, site, gradient_at, size):
    model, delta = TorchModel(outputs_of(kind)), real_noise(size)
    leaf = torch.tensor(delta, requires_grad=True)
    expected_U = torch_error_U(kind, model, leaf, gradient_at, site)
    (slope,) = torch.autograd.grad(expected_U.sum(), leaf, retain_graph=True)
    expected_U.mean().backward()
    options = {"gradient_at": gradient_at, "unit_B": units_of(kind)}

    def errors_U(moved, weights=None):
        weights = model.weights() if weights is None else weights
        return smart.linearity_error_U(lambda at: logits_at(weights, at, site), loss_of(kind), moved, **options)

    # The value is what cancellation leaves of the loss: of order delta^2.
    close(errors_U(delta), expected_U, 1e-10 if size > 0.1 else 1e-9)
    weights = model.weights()
    found = smart.unit_gradient_BTD(lambda moved: errors_U(moved, weights), delta, MASK_BT, units_of(kind))
    close(found, slope * torch.tensor(MASK_BT)[:, :, None], 1e-9)
    check_weights(model, lambda weights: errors_U(delta, weights).mean(), 1e-9)


@pytest.mark.parametrize(("gradient_at", "value"), [("perturbed", 8.0), ("clean", 8.0)])
def test_option_b_of_a_square_by_hand(gradient_at, value):
    # l = 2 x^2 at x = 1 + d, d = 2: 18 - 2 - 2 * 12 = -8 (perturbed); 18 - 2 - 2 * 4 = 8 (clean); both slopes 4 d.
    arguments = (lambda d: 1.0 + d[:, 0], lambda x: 2.0 * x[:, 0] ** 2)
    delta = np.full((1, 1, 1), 2.0)
    found = smart.linearity_error_U(*arguments, delta, gradient_at=gradient_at)
    np.testing.assert_allclose(found, [value], rtol=1e-12)
    slope = smart.derivative(
        lambda d: smart.linearity_error_U(*arguments, d, gradient_at=gradient_at), delta, (0, 0, 0)
    )
    np.testing.assert_allclose(slope, [8.0], rtol=1e-12)


def test_option_b_tells_the_two_points_of_the_gradient_apart():
    # l = x^3 at 0: d^3 - 3 d^3 against d^3.
    arguments = (lambda d: d[:, 0], lambda x: x[:, 0] ** 3, np.full((1, 1, 1), 0.5))
    for gradient_at, value in (("perturbed", 0.25), ("clean", 0.125)):
        np.testing.assert_allclose(smart.linearity_error_U(*arguments, gradient_at=gradient_at), [value], rtol=1e-12)


@pytest.mark.parametrize("gradient_at", ["perturbed", "clean"])
def test_option_b_climbs_is_projected_and_leaves_padding(gradient_at):
    model = TorchModel(C)
    logits_of, losses_of = reference_of(model), loss_of("classification")
    options = {"radius": 10.0, "num_steps": 1, "norm": "2", "gradient_at": gradient_at}

    def ascend(step_size, **changed):
        arguments = {**options, **changed, "step_size": step_size}
        return smart.option_b_ascend(logits_of, losses_of, noise(0.1), MASK_BT, **arguments)

    def error(delta):
        return smart.option_b_penalty(logits_of, losses_of, delta, gradient_at=gradient_at)

    up, down = ascend(0.001), ascend(-0.001)
    assert error(down) < error(real_noise(0.1)) < error(up)
    np.testing.assert_array_equal(up[MASK_BT == 0], 0.0)
    inside = ascend(1.0, radius=0.05)
    np.testing.assert_allclose(np.sqrt((inside**2).sum((1, 2))), 0.05, rtol=1e-12)


# The presets official-2020-04 and official-2021-02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_steps", [1, 2])
def test_the_delta_of_2020_04_equals_autograd(kind, num_steps):
    model = TorchModel(outputs_of(kind))
    clean = model(torch.zeros(B, T, D)).detach()
    expected = torch.tensor(noise(1e-2))
    for _ in range(num_steps):
        expected.requires_grad_()
        loss = torch_divergence_U(kind, "kl", clean, model(expected)).mean()
        (gradient,) = torch.autograd.grad(loss, expected)
        largest = gradient.abs().amax(-1, keepdim=True)
        expected = (0.05 * gradient / largest).nan_to_num(0.0).detach()
    options = {"step_size": 0.05, "num_steps": num_steps, "group_B": GROUP_B}
    found = smart.official_2020_04_delta(reference_of(model), kind, noise(1e-2), **options)
    # Where a token has a gradient, its largest component is the step; the noise is not kept.
    real = MASK_BT.astype(bool) & (np.abs(found).max(-1) > 0)
    assert real.any()
    np.testing.assert_allclose(np.abs(found).max(-1)[real], 0.05, rtol=1e-12)
    close(found[real], expected.numpy()[real], 1e-8)


def test_the_delta_of_2020_04_climbs_and_is_zero_where_the_gradient_is():
    # score = w . sum of all tokens: padding has a gradient here and is perturbed; ``0 *`` has none anywhere.
    found = smart.official_2020_04_delta(linear_score, "regression", noise(0.01), step_size=0.3)
    slope = np.array([3.0, -1.0, 0.5, 2.0, -0.25, 1.0, -2.0, 0.75])
    sign = np.sign(linear_score(noise(0.01)))[:, None, None]
    np.testing.assert_allclose(found, np.broadcast_to(sign * 0.1 * slope, (B, T, D)), rtol=1e-12)
    flat = smart.official_2020_04_delta(lambda d: 0.0 * linear_score(d), "regression", noise(0.01))
    np.testing.assert_array_equal(flat, 0.0)


def test_the_penalty_of_2020_04_holds_the_embeddings_of_the_perturbed_pass():
    model, delta = TorchModel(C), noise(0.1)
    clean = model(torch.zeros(B, T, D))
    detached = torch_block(model).detach()
    handle = model.bert.embeddings.register_forward_hook(lambda *_: detached + torch.tensor(delta))
    moved = torch_head(model, model.hidden())
    handle.remove()
    p, q = clean.log_softmax(-1), moved.log_softmax(-1)
    ps, qs = p.detach(), q.detach()
    (ps.exp() * (ps - q) + qs.exp() * (qs - p)).sum(-1).mean().backward()
    constant = bert.embed(model.weights(), IDS_BT, SEGMENTS_BT, EPS)
    divergence = smart.divergence_for("classification", stop_gradient="targets")

    def penalty(weights, embeddings_BTD=constant):
        return divergence(logits_at(weights, 0.0), logits_at(weights, delta, embeddings_BTD=embeddings_BTD)).mean()

    check_weights(model, penalty, 1e-9)
    name, index = PARAMETERS[0]  # and a penalty that does not hold them has another gradient there
    followed = smart.parameter_gradient(lambda weights: penalty(weights, None), model.weights(), name, index)
    assert followed != pytest.approx(model.parameter(name).grad[index].item(), rel=1e-3)


def test_the_preset_of_2021_02_embeds_twice_beside_a_clean_pass_that_does_not():
    model = TorchModel(C)
    weights = model.weights()
    clean = logits_at(weights, 0.0)
    expected = torch.tensor(noise(1e-5), requires_grad=True)
    p, y = torch_twice(model, expected).softmax(-1), torch.tensor(clean).softmax(-1)
    odds_p, odds_y = (-(1 / (each + 1e-6) - 1 + 1e-6).detach().log() for each in (p, y))
    (gradient,) = torch.autograd.grad((p * (odds_p - odds_y) * 2).sum(), expected)
    moved = expected.detach() + 1e-5 * gradient
    moved = moved / (moved.abs().amax(-1, keepdim=True) + 1e-6)

    def logits_of(delta):
        return logits_at(weights, delta, "embeddings_twice")

    found = smart.official_2021_02_delta(logits_of, clean, "classification", noise(1e-5))
    close(found, moved, 1e-8)
    wrong = smart.official_2020_08_delta(logits_of, "classification", noise(1e-5), step_size=1e-5)
    assert not np.allclose(found, wrong, atol=1e-6)
