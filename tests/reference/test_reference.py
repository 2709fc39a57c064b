"""The reference against known things: transformers' BertModel, torch's autograd, closed forms and hand numbers."""

# Shape suffixes: B = token sequences (rows), T = tokens, D = width, C = classes.

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from . import bert, bregman, smart

B, T, D, C, HEADS, EPS = 3, 4, 8, 3, 2, 1e-12
MASK_BT = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
IDS_BT = np.array([[2, 5, 19, 3], [2, 7, 0, 0], [2, 11, 5, 0]])
SEGMENTS_BT = np.array([[0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
GROUP_B = np.array([7, 4, 7])
PARAMETERS = [
    ("embeddings.word_embeddings.weight", (5, 3)),
    ("embeddings.LayerNorm.weight", (2,)),
    ("encoder.layer.0.attention.self.query.weight", (1, 6)),
    ("encoder.layer.0.attention.self.value.bias", (4,)),
    ("encoder.layer.1.intermediate.dense.weight", (9, 2)),
    ("head.weight", (0, 5)),
]


class TorchModel(torch.nn.Module):
    """BertModel, mean of the real tokens, linear head; ``delta_BTD`` is added to the embedding block's output."""

    def __init__(self, num_outputs: int):
        super().__init__()
        config = BertConfig(
            vocab_size=20,
            hidden_size=D,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            intermediate_size=16,
            max_position_embeddings=6,
            attn_implementation="eager",
        )
        self.bert = BertModel(config)
        self.head = torch.nn.Linear(D, num_outputs)
        self.double().eval()
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():  # Also biases and LayerNorm, whose initial 0 and 1 would hide a slip.
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data = 0.6 * noise + (1.0 if parameter.dim() == 1 else 0.0)

    def forward(self, delta_BTD: torch.Tensor) -> torch.Tensor:
        hook = self.bert.embeddings.register_forward_hook(lambda module, inputs, output: output + delta_BTD)
        with hook:
            hidden_BTD = self.hidden()
        real_BT1 = torch.tensor(MASK_BT)[:, :, None]
        return self.head((hidden_BTD * real_BT1).sum(1) / real_BT1.sum(1))

    def hidden(self) -> torch.Tensor:
        arguments = {"input_ids": IDS_BT, "token_type_ids": SEGMENTS_BT, "attention_mask": MASK_BT}
        return self.bert(**{name: torch.tensor(value) for name, value in arguments.items()}).last_hidden_state

    def weights(self) -> dict[str, np.ndarray]:
        return {name.removeprefix("bert."): value.numpy().copy() for name, value in self.state_dict().items()}

    def parameter(self, name: str) -> torch.nn.Parameter:
        return self.get_parameter(name if name.startswith("head.") else f"bert.{name}")


def reference_logits(weights, delta_BTD):
    embeddings_BTD = bert.embed(weights, IDS_BT, SEGMENTS_BT, EPS) + delta_BTD
    hidden_BTD = bert.encode(weights, embeddings_BTD, MASK_BT, HEADS, EPS)
    return bert.linear(weights, "head", bert.mean_pool(hidden_BTD, MASK_BT))


def reference_of(model):
    weights = model.weights()
    return lambda delta_BTD: reference_logits(weights, delta_BTD)


def noise(scale: float, seed: int = 1) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((B, T, D))


def torch_symmetric_kl(p_logits, q_logits):
    """Two calls of kl_div, another form than the reference's; per unit."""
    p, q = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
    both = torch.nn.functional.kl_div(p, q, log_target=True, reduction="none")
    return (both + torch.nn.functional.kl_div(q, p, log_target=True, reduction="none")).sum(-1)


def torch_divergence(kind, p, q):
    """Per unit; ranking: groups 4 and 7 in that order."""
    if kind == "regression":
        return (p - q).square().squeeze(-1)
    if kind == "classification":
        return torch_symmetric_kl(p, q)
    groups = [torch.tensor([1]), torch.tensor([0, 2])]
    return torch.stack([torch_symmetric_kl(p[rows, 0], q[rows, 0]) for rows in groups])


def outputs_of(kind: str) -> int:
    return C if kind == "classification" else 1


KINDS = ["classification", "regression", "ranking"]


# BERT


def test_the_forward_equals_transformers():
    model = TorchModel(C)
    weights = model.weights()
    embeddings_BTD = bert.embed(weights, IDS_BT, SEGMENTS_BT, EPS)
    hidden_BTD = bert.encode(weights, embeddings_BTD, MASK_BT, HEADS, EPS)
    np.testing.assert_allclose(hidden_BTD, model.hidden().detach().numpy(), rtol=1e-12, atol=1e-13)


def test_the_native_pooler_equals_transformers():
    model = TorchModel(C)
    hidden_BTD = model.hidden()
    pooled = bert.native_pool(model.weights(), hidden_BTD.detach().numpy())
    np.testing.assert_allclose(pooled, model.bert.pooler(hidden_BTD).detach().numpy(), rtol=1e-12)


def test_layers_in_two_calls_are_the_layers_in_one():
    weights = TorchModel(C).weights()
    embeddings_BTD = bert.embed(weights, IDS_BT, SEGMENTS_BT, EPS)
    lower_BTD = bert.encode(weights, embeddings_BTD, MASK_BT, HEADS, EPS, layers=range(1))
    both_BTD = bert.encode(weights, lower_BTD, MASK_BT, HEADS, EPS, layers=range(1, 2))
    np.testing.assert_array_equal(both_BTD, bert.encode(weights, embeddings_BTD, MASK_BT, HEADS, EPS))


def test_a_change_of_the_words_equals_inputs_embeds():
    model = TorchModel(C)
    words_BTD = model.bert.embeddings.word_embeddings(torch.tensor(IDS_BT)) + torch.tensor(noise(0.3))
    segments = torch.tensor(SEGMENTS_BT)
    output = model.bert(inputs_embeds=words_BTD, token_type_ids=segments, attention_mask=torch.tensor(MASK_BT))
    embeddings_BTD = bert.embed(model.weights(), IDS_BT, SEGMENTS_BT, EPS, word_delta_BTD=noise(0.3))
    hidden_BTD = bert.encode(model.weights(), embeddings_BTD, MASK_BT, HEADS, EPS)
    np.testing.assert_allclose(hidden_BTD, output.last_hidden_state.detach().numpy(), rtol=1e-12, atol=1e-13)


def test_padding_does_not_reach_the_logits():
    logits_of = reference_of(TorchModel(C))
    at_padding_BTD = noise(1.0) * (1 - MASK_BT)[:, :, None]
    np.testing.assert_array_equal(logits_of(at_padding_BTD), logits_of(np.zeros((B, T, D))))


# Derivatives


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_delta_equals_autograd(kind):
    model = TorchModel(outputs_of(kind))
    delta = torch.tensor(noise(0.1), requires_grad=True)
    clean = model(torch.zeros(B, T, D, dtype=torch.float64)).detach()
    (expected,) = torch.autograd.grad(torch_divergence(kind, clean, model(delta)).sum(), delta)
    unit_B = smart.unit_of_row_B(GROUP_B) if kind == "ranking" else None
    divergence = smart.divergence_for(kind, group_B=GROUP_B)
    found = smart.row_gradient_BTD(reference_of(model), divergence, noise(0.1), MASK_BT, unit_B)
    assert np.abs(found).max() > 1e-4
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-9 * expected.abs().max().item())


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_of_the_weights_equals_autograd_through_both_sides(kind):
    model = TorchModel(outputs_of(kind))
    delta = torch.tensor(noise(0.1))
    torch_divergence(kind, model(torch.zeros_like(delta)), model(delta)).mean().backward()
    divergence = smart.divergence_for(kind, group_B=GROUP_B)

    def penalty(weights):
        return smart.smart_penalty(lambda moved: reference_logits(weights, moved), divergence, noise(0.1))

    for name, index in PARAMETERS:
        expected = model.parameter(name).grad
        found = smart.parameter_gradient(penalty, model.weights(), name, index)
        assert found == pytest.approx(expected[index].item(), rel=1e-9, abs=1e-9 * expected.abs().max().item()), name


def test_the_complex_step_agrees_with_finite_differences():
    logits_of, divergence = reference_of(TorchModel(C)), smart.divergence_for("classification")

    def penalty(delta_BTD):
        return smart.smart_penalty(logits_of, divergence, delta_BTD)

    step_BTD = np.zeros((B, T, D))
    step_BTD[1, 1, 6] = 1e-5
    expected = (penalty(noise(0.1) + step_BTD) - penalty(noise(0.1) - step_BTD)) / 2e-5
    assert smart.derivative(penalty, noise(0.1), (1, 1, 6)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("stop_gradient", ["reference", "targets"])
def test_stopped_gradients_equal_autograd(stop_gradient):
    p, q = np.array([[0.3, -1.0, 0.2]]), np.array([[-0.4, 0.6, 0.1]])
    x = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    p_logits, q_logits = torch.tensor(p) * x, torch.tensor(q) * x.square()
    if stop_gradient == "reference":
        loss = torch_symmetric_kl(p_logits.detach(), q_logits)
    else:
        log_p, log_q = p_logits.log_softmax(-1), q_logits.log_softmax(-1)
        loss = log_p.exp().detach() * (log_p.detach() - log_q) + log_q.exp().detach() * (log_q.detach() - log_p)
    loss.sum().backward()
    divergence = smart.divergence_for("classification", stop_gradient=stop_gradient)
    found = smart.derivative(lambda at: divergence(p * at[0], q * at[0] ** 2), np.array([0.7]), (0,))
    np.testing.assert_allclose(found, [x.grad.item()], rtol=1e-12)


# Divergences


def test_symmetric_kl_by_hand():
    # (3/4 - 1/2) log(3/2) + (1/4 - 1/2) log(1/2) = (log(3/2) + log 2) / 4 = log(3) / 4.
    found = smart.symmetric_kl_U(np.log([[0.75, 0.25]]) + 5.0, np.log([[0.5, 0.5]]))
    np.testing.assert_allclose(found, [np.log(3.0) / 4.0], rtol=1e-15)


def test_ranking_divergence_belongs_to_the_group_whatever_the_order_of_the_rows():
    # Group 7 has the probabilities (3/4, 1/4) and (1/2, 1/2); group 4 has one candidate, so it cannot move.
    clean, perturbed = np.log([[0.75], [1.0], [0.25]]), np.log([[0.5], [9.0], [0.5]])
    found = smart.divergence_U("ranking", clean, perturbed, group_B=GROUP_B)
    np.testing.assert_allclose(found, [0.0, np.log(3.0) / 4.0], rtol=1e-15)
    assert smart.unit_of_row_B(GROUP_B).tolist() == [1, 0, 1]


def test_a_squared_difference_is_never_broadcast():
    np.testing.assert_array_equal(smart.squared_U(np.array([[1.0], [2.0]]), np.array([[3.0], [2.5]])), [4.0, 0.25])
    with pytest.raises(AssertionError):
        smart.squared_U(np.zeros(2), np.zeros((2, 1)))


# Projections and directions


@pytest.mark.parametrize(
    "norm, vector, radius, expected",
    [
        ("1", [3.0, 1.0], 2.0, [2.0, 0.0]),  # threshold (4 - 2) / 2 = 1
        ("1", [-3.0, 2.0, 0.5], 3.0, [-2.0, 1.0, 0.0]),  # threshold (5 - 3) / 2 = 1, above 0.5
        ("1", [0.5, -0.25], 1.0, [0.5, -0.25]),
        ("2", [3.0, -4.0], 1.0, [0.6, -0.8]),
        ("2", [0.3, 0.4], 1.0, [0.3, 0.4]),
        ("inf", [3.0, -0.5, -2.0], 1.0, [1.0, -0.5, -1.0]),
    ],
)
def test_projection_by_hand(norm, vector, radius, expected):
    np.testing.assert_allclose(smart.project(np.array([vector]), radius, norm), [expected], rtol=1e-15)


@pytest.mark.parametrize("norm, length", [("inf", 4.0), ("2", 5.0), ("1", 7.0)])
@pytest.mark.parametrize("scale", [1.0, 1e-200])
def test_direction_has_length_one_at_every_scale(norm, length, scale):
    found = smart.unit_direction(scale * np.array([[3.0, -4.0]]), norm)
    np.testing.assert_allclose(found, [[3.0 / length, -4.0 / length]], rtol=1e-14)


def test_a_zero_gradient_gives_a_zero_direction():
    np.testing.assert_array_equal(smart.unit_direction(np.zeros((2, 3)), "2"), np.zeros((2, 3)))


# The ascent

SLOPE_D = np.array([3.0, -1.0, 0.5, 2.0, -0.25, 1.0, -2.0, 0.75])


def linear_score(delta_BTD):
    """``w . (sum of the tokens' delta)``, padding included, so that a perturbed pad token would show."""
    return (delta_BTD @ SLOPE_D).sum(axis=1)


def linear_ascent(norm, num_steps=60, step_size=0.05, logits_of=linear_score):
    options = {"radius": 0.2, "step_size": step_size, "num_steps": num_steps, "norm": norm}
    start_BTD = noise(0.01)
    return smart.ascend(logits_of, smart.divergence_for("regression"), start_BTD, MASK_BT, **options)


def start_sign() -> np.ndarray:
    """The side of zero on which a row starts is the side on which it climbs."""
    return np.sign(linear_score(noise(0.01) * MASK_BT[:, :, None]))[:, None, None]


def test_the_worst_delta_of_a_linear_model_in_the_max_norm_ball():
    # radius * sign(w) at each real token. Steps shorter than the radius: one long one would also get there downhill.
    expected_BTD = start_sign() * 0.2 * np.sign(SLOPE_D) * MASK_BT[:, :, None]
    np.testing.assert_allclose(linear_ascent("inf"), expected_BTD, rtol=1e-12)


def test_the_worst_delta_of_a_linear_model_in_the_euclidean_ball_of_the_row():
    # radius * w / ||w||, the same at each of the row's T_i real tokens, so divided by sqrt(T_i).
    share_B11 = 0.2 / (np.sqrt(MASK_BT.sum(1)) * np.linalg.norm(SLOPE_D))[:, None, None]
    expected_BTD = start_sign() * share_B11 * SLOPE_D * MASK_BT[:, :, None]
    np.testing.assert_allclose(linear_ascent("2", num_steps=400), expected_BTD, rtol=1e-9, atol=1e-12)


def test_the_worst_delta_of_a_linear_model_in_the_l1_ball_is_on_the_largest_slope():
    # |w| is largest in component 0; its tokens share the radius in a way that depends on the start.
    found_BTD = linear_ascent("1", num_steps=150)
    np.testing.assert_allclose(found_BTD[:, :, 0].sum(1), 0.2 * start_sign().reshape(-1), rtol=1e-12)
    np.testing.assert_array_equal(found_BTD[:, :, 1:], 0.0)


def test_one_step_by_hand():
    # The gradient is a multiple of w = (3, -1, ...), max|w| = 3: a step of 0.3 moves by 0.1 w, away from zero.
    options = {"radius": 10.0, "step_size": 0.3, "num_steps": 1, "norm": "inf"}
    found_BTD = smart.ascend(linear_score, smart.divergence_for("regression"), noise(0.01), MASK_BT, **options)
    expected_BTD = (noise(0.01) + start_sign() * 0.1 * SLOPE_D) * MASK_BT[:, :, None]
    np.testing.assert_allclose(found_BTD, expected_BTD, rtol=1e-12)


@pytest.mark.parametrize("norm", ["inf", "2", "1"])
def test_going_downhill_is_something_else(norm):
    def penalty(delta_BTD):
        return smart.smart_penalty(linear_score, smart.divergence_for("regression"), delta_BTD)

    start_BTD = noise(0.01) * MASK_BT[:, :, None]
    uphill_BTD, downhill_BTD = linear_ascent(norm, 1, 0.001), linear_ascent(norm, 1, -0.001)
    assert not np.allclose(uphill_BTD, downhill_BTD, rtol=1e-3)
    assert penalty(downhill_BTD) < penalty(start_BTD) < penalty(uphill_BTD)


def test_the_start_is_not_projected_before_the_first_gradient():
    # score = x (x - 1), so d/dx score^2 = 2 x (x - 1) (2 x - 1): negative at the start 0.75, positive at its
    # projection 0.25. From 0.75 a step of 0.6 goes down to 0.15; from 0.25 it would go up to the edge.
    def score(delta_BTD):
        return (delta_BTD * (delta_BTD - 1.0))[:, 0, 0]

    options = {"radius": 0.25, "step_size": 0.6, "num_steps": 1, "norm": "inf"}
    start_BTD, mask_BT = np.full((1, 1, 1), 0.75), np.ones((1, 1))
    found_BTD = smart.ascend(score, smart.divergence_for("regression"), start_BTD, mask_BT, **options)
    np.testing.assert_allclose(found_BTD, [[[0.15]]], rtol=1e-12)


@pytest.mark.parametrize("norm", ["inf", "2", "1"])
def test_the_size_of_the_gradient_does_not_matter(norm):
    found_BTD = linear_ascent(norm, num_steps=3, logits_of=lambda delta_BTD: 1e-100 * linear_score(delta_BTD))
    np.testing.assert_allclose(found_BTD, linear_ascent(norm, num_steps=3), rtol=1e-12, atol=1e-17)


def test_a_model_that_ignores_delta_only_gets_the_start_projected():
    found_BTD = linear_ascent("2", logits_of=lambda delta_BTD: 0.0 * linear_score(delta_BTD))
    np.testing.assert_array_equal(found_BTD, noise(0.01) * MASK_BT[:, :, None])


def test_rows_climb_their_own_group():
    # Rows 0 and 2 are rivals in group 7: the worst change moves them apart. Row 1 is alone in group 4: no gradient.
    options = {"radius": 0.2, "step_size": 0.05, "num_steps": 60, "norm": "inf", "unit_B": smart.unit_of_row_B(GROUP_B)}
    divergence = smart.divergence_for("ranking", group_B=GROUP_B)
    found_BTD = smart.ascend(linear_score, divergence, noise(0.01), MASK_BT, **options)
    scores_B = linear_score(found_BTD)
    worst = 0.2 * np.abs(SLOPE_D).sum()
    sign = np.sign(scores_B[0])
    np.testing.assert_allclose(scores_B[[0, 2]], [sign * 4 * worst, -sign * 3 * worst], rtol=1e-12)
    np.testing.assert_array_equal(found_BTD[1], noise(0.01)[1] * MASK_BT[1][:, None])


# The preset official-2020-08


def torch_official_loss(kind, adversarial, clean):
    if kind == "regression":
        return (adversarial - clean).square().sum()
    if kind == "ranking":
        rows = [torch.tensor([1]), torch.tensor([0, 2])]
        return sum(torch_official_loss("classification", adversarial[r].T, clean[r].T) for r in rows)
    p, y = adversarial.softmax(-1), clean.softmax(-1)
    log_odds_p, log_odds_y = (-(1 / (probability + 1e-6) - 1 + 1e-6).detach().log() for probability in (p, y))
    return (p * (log_odds_p - log_odds_y) * 2).sum()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_steps", [1, 2])
def test_the_official_delta_equals_autograd(kind, num_steps):
    model = TorchModel(outputs_of(kind))
    clean = model(torch.zeros(B, T, D, dtype=torch.float64)).detach()
    expected = torch.tensor(noise(1e-3))
    for _ in range(num_steps):
        expected.requires_grad_()
        (gradient,) = torch.autograd.grad(torch_official_loss(kind, model(expected), clean), expected)
        expected = expected.detach() + 0.5 * gradient
        expected = expected / (expected.abs().amax(-1, keepdim=True) + 1e-6)
    options = {"step_size": 0.5, "num_steps": num_steps, "group_B": GROUP_B}
    found_BTD = smart.official_2020_08_delta(reference_of(model), kind, noise(1e-3), **options)
    np.testing.assert_allclose(found_BTD, expected.numpy(), rtol=1e-7, atol=1e-9)
    assert not np.allclose(found_BTD, noise(1e-3) / (np.abs(noise(1e-3)).max(-1, keepdims=True) + 1e-6), atol=1e-3)


def test_the_official_delta_fills_padding_to_about_one():
    delta_BTD = smart.official_2020_08_delta(reference_of(TorchModel(C)), "classification", noise(1e-5))
    largest_BT = np.abs(delta_BTD).max(-1)
    assert (largest_BT > 0.7).all() and (largest_BT < 1.0).all()


# Bregman


def test_the_teacher_is_a_constant():
    model, teacher = TorchModel(C), noise(1.0, seed=3)[:, 0, :C]
    torch_symmetric_kl(torch.tensor(teacher), model(torch.tensor(noise(0.1)))).mean().backward()
    divergence = smart.divergence_for("classification")

    def penalty(weights):
        # The imaginary part stands for a teacher that depends on the weights: it must not count.
        wrong = 1.0 + 1j * weights["head.bias"][0].imag
        return bregman.mbpp_penalty(reference_logits(weights, noise(0.1)), wrong * teacher, divergence)

    for name, index in [*PARAMETERS, ("head.bias", (0,))]:
        expected = model.parameter(name).grad[index].item()
        found = smart.parameter_gradient(penalty, model.weights(), name, index)
        assert found == pytest.approx(expected, rel=1e-9), name


def test_the_teacher_moves_by_one_minus_beta():
    found = bregman.update_teacher({"w": np.array([1.0, 0.0])}, {"w": np.array([2.0, 10.0])}, beta=0.9)
    np.testing.assert_allclose(found["w"], [1.1, 1.0], rtol=1e-15)


def test_beta_changes_after_a_tenth_of_the_updates():
    assert [bregman.beta_at(update, 100) for update in (0, 9, 10, 99)] == [0.99, 0.99, 0.999, 0.999]
    assert [bregman.beta_at(update, 30) for update in (2, 3)] == [0.99, 0.999]
