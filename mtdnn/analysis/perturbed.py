"""What a method adds to the hidden states of one text, at a site that the user picks.

Shape suffixes: N = rows, T = tokens, D = hidden width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtdnn.data.batch import Batch
from mtdnn.errors import ConfigError
from mtdnn.model import MultiTaskModel
from mtdnn.registry import build, options_of
from mtdnn.regularizers.base import REGULARIZERS, Regularizer
from mtdnn.regularizers.perturbing import Perturbing, applied_once
from mtdnn.rng import Rng
from mtdnn.yaml_files import parse_settings

MAX_DRAWS = 1000


@dataclass(frozen=True)
class Perturbed:
    """The hidden states at a site and a method's change of them: (N, T, D) each, no graph."""

    site: str
    hidden_NTD: Tensor
    delta_NTD: Tensor


def options_from(settings: Sequence[str]) -> dict[str, Any]:
    """``["max_layer=2", "preset=paper"]`` as a method's options; the values are YAML."""
    return parse_settings(settings, option="--set", example="step_size=2.0")


def site_of(layer: str | None) -> str | None:
    """``2`` is short for ``layer:2``."""
    return f"layer:{layer}" if layer is not None and layer.isdigit() else layer


def method_at(name: str, options: Mapping[str, Any], *, site: str | None) -> tuple[Perturbing, str]:
    """A regularizer that perturbs hidden states, and the site to look at.

    :param site: where it is to perturb; by default its own site, of several (RAPT) the middle one.
    :raises ConfigError: when the method perturbs nothing, or never there.
    """
    method = built(name, options)
    sites = [applied_once(each) for each in method.sites]
    if site is None:
        return method, sites[len(sites) // 2]
    if site not in sites and "site" in options_of(type(method)) and "site" not in options:
        return built(name, {**options, "site": site}), site
    if site not in sites:
        raise ConfigError(
            f"--layer: '{name}' perturbs {', '.join(sites)} and not {site}; choose one of these or change its options, "
            f"for RAPT with --set max_layer=... or --set where=embeddings"
        )
    return method, site


def built(name: str, options: Mapping[str, Any]) -> Perturbing:
    if not issubclass(REGULARIZERS.get(name, where="--method"), Perturbing):
        known = [each for each in REGULARIZERS.names() if issubclass(REGULARIZERS.get(each, where=""), Perturbing)]
        raise ConfigError(f"--method: '{name}' changes no hidden states; one of: {', '.join(known)}")
    method: Regularizer = build(REGULARIZERS, {"type": name, **options}, where="--set")
    assert isinstance(method, Perturbing)
    if getattr(method, "option", None) == "B":
        raise ConfigError("--set option=B: this option of SMART needs the text's label; only option A can be shown")
    return method


def perturbed(model: MultiTaskModel, batch: Batch, method: Perturbing, *, site: str, seed: int) -> Perturbed:
    """The hidden states at a site, and the change that a method makes of them as in training, but without dropout.

    A method that draws its layer anew for every mini-batch draws until it is ``site``.
    """
    rng = Rng(f"{seed}/analysis")
    clean = model.run(batch, rng=rng.at("clean"), sites=method.sites)
    for draw in range(MAX_DRAWS):
        change = method.perturbation(model, batch, clean, rng.at(draw))
        if applied_once(change.site) == site:
            return Perturbed(site, clean.hidden(site).detach(), change.delta_NTD)
    raise AssertionError(f"{MAX_DRAWS} draws and never {site}")


def batch_of(
    model: MultiTaskModel, inputs_NT: dict[str, Tensor], *, task: str | None, needs_output: bool = True
) -> Batch:
    """The row as an unlabelled batch of a task; by default the model's first that will do.

    :param needs_output: only a task whose output for one text can move will do, as an ascent needs it.
    """
    one = torch.ones(1, dtype=torch.int64, device=model.device)
    named = {name: Batch(task=name, uids=("text",), inputs_NT=inputs_NT, num_rows_U=one) for name in model.task_defs}
    plain = {name: batch for name, batch in named.items() if not model.head(name).token_columns}
    fitting = {name: batch for name, batch in plain.items() if not needs_output or has_output(model, batch)}
    chosen = task or next(iter(fitting), None)
    if chosen not in fitting:
        raise ConfigError(
            f"--task: '{task or ', '.join(named)}' has no output for one text that an ascent could move (a ranking "
            "task compares candidates, and a head that reads tokens needs rows of its own); tasks of this model that "
            f"have one: {', '.join(fitting) or 'none'}"
        )
    return fitting[chosen]


@torch.no_grad()
def has_output(model: MultiTaskModel, batch: Batch) -> bool:
    """Whether the output for a row by itself can differ: a number, or a distribution over more than one outcome."""
    found = model.outputs(model.run(batch).logits, batch)
    return found.log_probs_UK is None or found.log_probs_UK.shape[1] > 1
