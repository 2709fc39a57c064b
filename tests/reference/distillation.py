"""Knowledge distillation from an ensemble in plain numpy, from logits.

Liu et al., 2019, "MT-DNN-KD" (arXiv:1904.09482), section 3: the soft targets are the average of the teachers' class
probabilities, the loss with them is the cross-entropy, and a task that has teachers has the average of the losses on
the correct and on the soft targets. Hinton et al., 2015 (arXiv:1503.02531), section 2: both sides at a temperature T,
the loss times T^2.
"""

# Shape suffixes: B = rows, C = classes, K = candidates of a group.

from collections.abc import Sequence

import numpy as np

from .smart import Kind, log_softmax

Array = np.ndarray


def soft_loss(
    kind: Kind, student: Array, teachers: Sequence[Array], *, temperature: float = 1.0, group_B: Array | None = None
) -> Array:
    """Mean over the units of the loss with the soft targets, less the soft targets' own entropy.

    :param teachers: each one's logits, in the student's shape; constants.
    """
    if kind == "regression":
        mean_B = sum(scores.reshape(-1).real for scores in teachers) / len(teachers)
        apart_B = student.reshape(-1) - mean_B
        return (apart_B * apart_B).mean()
    groups = [np.array([row]) for row in range(len(student))]
    if kind == "ranking":
        groups = [np.flatnonzero(group_B == group) for group in np.unique(group_B)]
    terms = []
    for rows in groups:
        scores = [each[rows].reshape(-1).real / temperature for each in teachers]
        soft_K = sum(np.exp(log_softmax(each)) for each in scores) / len(teachers)
        cross_entropy = -(soft_K * log_softmax(student[rows].reshape(-1) / temperature)).sum()
        terms.append(cross_entropy + (soft_K * np.log(soft_K)).sum())
    return temperature**2 * np.array(terms).mean()
