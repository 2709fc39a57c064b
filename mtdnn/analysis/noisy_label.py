"""What a wrong label costs under adversarial training and under smoothness-inducing regularization.

Jiang et al., 2020, "SMART", first version, section 5 and figure 1. https://arxiv.org/abs/1911.03437

One example, two classes, a score f(x) whose sign is the prediction. The margin is m = y f(x) for the label y that the
data give: below 0, the model contradicts the label, which is right where the label is wrong. An l_inf change of x of
size epsilon moves the score w . x of a linear model by at most epsilon ||w||_1, which is called the radius here.

The paper prints h(z) = log(1 + exp(-z)) and applies it to -y f(x) and -f(x) f(x~), which would reward mistakes and
disagreement. Its sentences and its inequality fit log(1 + exp(z)), that is log(1 + exp(-m)): that is computed here.

Shape suffixes: U = units, one a margin.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.divergences import Outputs, divergence
from mtdnn.errors import ConfigError
from mtdnn.heads.classification import ClassificationHead
from mtdnn.report.figures import Curve, Panel

RIGHT = 1  # the class of the label y; by symmetry y = +1
LOSSES = ("clean", "adversarial", "smoothness", "symmetric_kl")
HEADER = ("margin", *LOSSES)
NAMES = {
    "clean": "the loss alone",
    "adversarial": "adversarial training",
    "smoothness": "smoothness, the paper's logistic form",
    "symmetric_kl": "smoothness, symmetric KL (SMART)",
}
MAX_MARGINS = 100_000


def margins(*, limit: float = 4.0, step: float = 0.1) -> Tensor:
    """From -limit to limit, ``step`` apart: (U,), float64.

    :raises ConfigError: when a value is not above 0, or there would be more than 100,000 margins.
    """
    if not (step > 0 and limit > 0) or 2 * limit / step > MAX_MARGINS:
        raise ConfigError(
            f"--step and --limit must be above 0, with at most {MAX_MARGINS} steps between -limit and limit, "
            f"got {step} and {limit}"
        )
    count = int(limit / step + 1e-9)
    return step * torch.arange(-count, count + 1, dtype=torch.float64)


def composite_losses(margin_U: Tensor, *, radius: float = 0.5, weight: float = 1.0) -> dict[str, Tensor]:
    """The loss of each margin by itself and with either term: four times (U,).

    clean l(m); adversarial l(m) + lambda max l(m + d); smoothness l(m) + lambda max l(m (m + d)); symmetric_kl
    l(m) + lambda max D(m, m + d): each maximum over |d| <= radius, with a change of its own.

    :param radius: the largest change of the score, at least 0; the paper gives none [choice].
    :param weight: lambda, at least 0; the paper gives none [choice].
    """
    if not (radius >= 0 and weight >= 0):
        raise ConfigError(f"--radius and --weight must be at least 0, got {radius} and {weight}")
    terms: Mapping[str, Callable[[Tensor], Tensor]] = {
        "adversarial": label_loss,
        "smoothness": lambda moved_U: label_loss(margin_U * moved_U),
        "symmetric_kl": lambda moved_U: divergence(outputs(margin_U), outputs(moved_U)),
    }
    clean_U = label_loss(margin_U)
    worst = {name: at_worst(term, margin_U, radius=radius) for name, term in terms.items()}
    return {"clean": clean_U, **{name: clean_U + weight * values_U for name, values_U in worst.items()}}


def at_worst(term: Callable[[Tensor], Tensor], margin_U: Tensor, *, radius: float) -> Tensor:
    """The largest value of a term inside the interval, which one of its ends has: no term rises and falls again."""
    return torch.maximum(term(margin_U - radius), term(margin_U + radius))


def two_logits(margin_U: Tensor) -> Tensor:
    """Logits whose difference is the margin: (U, 2)."""
    return torch.stack([torch.zeros_like(margin_U), margin_U], dim=1)


def label_loss(margin_U: Tensor) -> Tensor:
    """The classification head's loss, log(1 + exp(-margin)): (U,)."""
    count = len(margin_U)
    batch = Batch(
        task="two classes",
        uids=tuple(map(str, range(count))),
        inputs_NT={},
        num_rows_U=torch.ones(count, dtype=torch.int64),
        targets=torch.full((count,), RIGHT),
    )
    return ClassificationHead(hidden_size=1, label_words=(("-1",), ("+1",))).loss(two_logits(margin_U), batch)


def outputs(margin_U: Tensor) -> Outputs:
    """The two classes' probabilities."""
    return Outputs.categorical(two_logits(margin_U))


def table(margin_U: Tensor, losses: Mapping[str, Tensor]) -> list[list[float]]:
    """A row per margin, in the order of :data:`HEADER`; rounded to 10 decimals."""
    columns = [margin_U, *(losses[name] for name in LOSSES)]
    return [[round(value, 10) + 0.0 for value in row] for row in torch.stack(columns, dim=1).tolist()]


def sample(rows: Sequence[Sequence[float]], *, count: int = 9) -> list[Sequence[float]]:
    """About ``count`` rows at even distances, the first and the last among them."""
    last = len(rows) - 1
    chosen = dict.fromkeys(round(last * place / (count - 1)) for place in range(count))
    return [rows[index] for index in chosen]


def panel(rows: Sequence[Sequence[float]]) -> Panel:
    """The losses over the margin."""
    x, *columns = zip(*rows, strict=True)
    return Panel(
        title="What one label costs",
        x_label="margin y f(x): below 0, the model contradicts the label",
        y_label="loss",
        curves=[Curve(name=NAMES[name], x=x, y=y) for name, y in zip(LOSSES, columns, strict=True)],
    )
