"""Momentum (accelerated) Bregman proximal point in plain numpy.

Jiang et al., 2020, "SMART" (arXiv:1911.03437), sections 3.2 and 3.3 and Algorithm 1, line 14.
"""

import numpy as np

from .smart import Divergence, Weights

Array = np.ndarray


def mbpp_penalty(student: Array, teacher: Array, divergence: Divergence) -> Array:
    """D_Breg(theta, theta~): mean over the units of the divergence between the student's and the teacher's logits.

    The teacher is a constant, SMART equation 3: no derivative passes through it.
    """
    return divergence(teacher.real, student).mean()


def update_teacher(teacher: Weights, student: Weights, beta: float) -> Weights:
    """``theta~ <- (1 - beta) theta + beta theta~``; Algorithm 1, line 14."""
    assert teacher.keys() == student.keys(), teacher.keys() ^ student.keys()
    return {name: (1.0 - beta) * student[name] + beta * teacher[name] for name in teacher}


def longest_beta(every: int, num_steps: int) -> float:
    """The momentum whose average is over a tenth of the steps: the mean age of what is in a moving average with an
    update every S steps is S / (1 - beta).
    """
    updates = num_steps / every / 10
    return 1.0 - 1.0 / updates if updates > 1 else 0.0


def beta_at(update: int, num_updates: int) -> float:
    """0.99 for the first 10 % of the updates, then 0.999; after Tarvainen & Valpola, 2017, section 3.

    :param update: 0 for the first one, up to ``num_updates - 1``.
    """
    assert 0 <= update < num_updates, (update, num_updates)
    # In whole numbers: 0.1 * 3 is a little more than 0.3.
    return 0.99 if 10 * update < num_updates else 0.999
