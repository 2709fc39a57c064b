"""The task losses in plain numpy, per unit, analytic in the logits.

Liu et al., 2019, "MT-DNN" (arXiv:1901.11504), equations 6 to 8; ranking with several right answers: the
logarithm of the sum of their probabilities.
"""

# Shape suffixes: B = rows, C = classes, U = units.

import numpy as np

from .smart import Kind, log_softmax

Array = np.ndarray


def loss_U(kind: Kind, logits: Array, targets: Array, *, group_B: Array | None = None) -> Array:
    """Loss of each unit.

    :param targets: classification: class numbers (B,); regression: scores (B,); ranking: 1 at right rows (B,).
    """
    if kind == "classification":
        return -log_softmax(logits)[np.arange(len(targets)), targets]
    if kind == "regression":
        error_B = logits.reshape(-1) - targets
        return error_B * error_B
    return np.array([_marginal(logits[group_B == group], targets[group_B == group]) for group in np.unique(group_B)])


def _marginal(scores_K: Array, right_K: Array) -> Array:
    """-log of the probability of all right answers together; 0 where the group is all right, or all wrong."""
    if right_K.all() or not right_K.any():
        return 0.0 * scores_K.sum()
    share_K = np.exp(log_softmax(scores_K))
    return -np.log(share_K[right_K.astype(bool)].sum())
