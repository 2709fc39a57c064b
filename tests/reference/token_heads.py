"""Losses and distributions of the heads that read tokens, in plain numpy, analytic in the hidden states.

Tagging and span extraction: Devlin et al., 2019, "BERT" (arXiv:1810.04805), sections 4.2 and 5.3, one sentence or
question after the other. SAN: Liu et al., 2019, "MT-DNN" (arXiv:1901.11504), section 3, with the GRU of Cho et al.,
2014 (arXiv:1406.1078), as ``torch.nn.GRUCell`` writes it.
"""

# Shape suffixes: N = rows, T = tokens, D = width, C = labels, R = distributions of all units.

import numpy as np

from .smart import Form, StopGradient, form_U, log_softmax

Array = np.ndarray
NOWHERE = -1e9  # a score whose probability is zero, exactly


def word_logits_RC(logits_NTC: Array, word_NT: Array) -> Array:
    """The scores of every word's first piece, sentence after sentence."""
    return np.stack([logits_NTC[n, t] for n in range(len(word_NT)) for t in np.flatnonzero(word_NT[n] >= 0)])


def word_units_R(word_NT: Array) -> Array:
    return np.array([n for n in range(len(word_NT)) for _ in np.flatnonzero(word_NT[n] >= 0)])


def tagging_loss_U(logits_NTC: Array, word_NT: Array, targets: list[list[int]]) -> Array:
    """Per sentence the mean over its words of -log P(label)."""
    losses = []
    for n, row in enumerate(word_NT):
        terms = [-log_softmax(logits_NTC[n, t])[targets[n][row[t]]] for t in range(len(row)) if row[t] >= 0]
        losses.append(sum(terms) / len(terms))
    return np.array(losses)


def end_logits_RT(logits_NT2: Array, start_NT: Array) -> Array:
    """The scores of all windows' starts, then of all windows' ends; nothing but the first token and the text counts."""
    here_NT = start_NT >= 0
    here_NT[:, 0] = True
    both = [np.where(here_NT, logits_NT2[:, :, side], NOWHERE) for side in (0, 1)]
    return np.concatenate(both)


def span_loss_U(logits_NT2: Array, start_NT: Array, end_NT: Array, unit_N: Array, answers: list[tuple]) -> Array:
    """Per question the mean over its windows of half of -log P(start) - log P(end)."""
    losses: list[list] = [[] for _ in answers]
    for n, unit in enumerate(unit_N):
        first, after = answers[unit]
        text = [t for t in range(start_NT.shape[1]) if start_NT[n, t] >= 0]
        inside = [t for t in text if end_NT[n, t] > first and start_NT[n, t] < after]
        whole = start_NT[n, text[0]] <= first and end_NT[n, text[-1]] >= after
        begin, stop = (inside[0], inside[-1]) if whole else (0, 0)
        places = [0, *text]
        begins, stops = (log_softmax(logits_NT2[n, places, side]) for side in (0, 1))
        losses[unit].append(-(begins[places.index(begin)] + stops[places.index(stop)]) / 2)
    return np.array([sum(each) / len(each) for each in losses])


def mean_divergence_U(
    form: Form, a: Array, b: Array, unit_R: Array, num_units: int, stop_gradient: StopGradient = "none"
) -> Array:
    """Per unit the mean of its distributions' divergences."""
    values_R = form_U(form, a, b, stop_gradient)
    return np.array([values_R[unit_R == unit].mean() for unit in range(num_units)])


# SAN


def softmax(scores: Array) -> Array:
    return np.exp(log_softmax(scores))


def sigmoid(values: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-values))


def gru(weights: dict[str, Array], x: Array, h: Array) -> Array:
    """One step for one vector; the weights' rows are reset, update, new."""
    width = len(h)
    from_x = (weights["of_input.weight"] @ x + weights["of_input.bias"]).reshape(3, width)
    from_h = (weights["of_state.weight"] @ h + weights["of_state.bias"]).reshape(3, width)
    reset, update = sigmoid(from_x[0] + from_h[0]), sigmoid(from_x[1] + from_h[1])
    return (1 - update) * np.tanh(from_x[2] + reset * from_h[2]) + update * h


def san_probabilities(weights: dict[str, Array], premise_TD: Array, hypothesis_TD: Array, steps: int) -> Array:
    """P_r of one pair: (C,)."""
    cell = {name.removeprefix("cell."): value for name, value in weights.items() if name.startswith("cell.")}
    alpha = softmax(hypothesis_TD @ weights["first_attention.weight"][0])
    state = sum(a * m for a, m in zip(alpha, hypothesis_TD, strict=True))
    found = []
    for _ in range(steps):
        beta = softmax(np.array([state @ weights["attention.weight"].T @ m for m in premise_TD]))
        x = sum(b * m for b, m in zip(beta, premise_TD, strict=True))
        features = np.concatenate([state, x, np.abs(state - x), state * x])
        found.append(softmax(weights["output.weight"] @ features + weights["output.bias"]))
        state = gru(cell, x, state)
    return np.mean(found, axis=0)
