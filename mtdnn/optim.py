"""Parameter groups, optimizers and schedules.

Optimizers and schedules are named in YAML: ``{type: cosine, num_cycles: 1.5}`` calls :func:`cosine`, whose signature is
the schema and whose answer makes the schedule of a run.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, cast

import torch
from pydantic import Field
from torch import nn
from torch.optim import SGD, Adamax, AdamW, Optimizer, RAdam
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
)

from mtdnn.encoder import layers, modules_up_to
from mtdnn.errors import ConfigError, listed, unknown
from mtdnn.model import MultiTaskModel
from mtdnn.registry import defaults_of, option_faults

NO_DECAY = ("bias", "norm.weight")
FREEZABLE = ("embeddings", "layer:<r>", "encoder")

T = TypeVar("T")
Named = Sequence[tuple[str, nn.Parameter]]
Groups = list[dict[str, Any]]
MakeOptimizer = Callable[..., Optimizer]  # (groups, lr=)
MakeSchedule = Callable[[Optimizer, int, int], LambdaLR]  # (optimizer, steps of warm-up, steps of the run)
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def parameter_groups(model: nn.Module, *, weight_decay: float) -> Groups:
    """Weight decay on everything but biases and LayerNorm; what is frozen is in no group."""
    return split_by_decay(trainable(model), weight_decay=weight_decay)


def trainable(model: nn.Module) -> Named:
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def split_by_decay(named: Named, *, weight_decay: float) -> Groups:
    return [
        {"params": [w for n, w in named if not is_exempt(n)], "weight_decay": weight_decay},
        {"params": [w for n, w in named if is_exempt(n)], "weight_decay": 0.0},
    ]


def is_exempt(name: str) -> bool:
    return name.casefold().endswith(NO_DECAY)


def layerwise_groups(model: MultiTaskModel, *, learning_rate: float, weight_decay: float, layer_decay: float) -> Groups:
    """Discriminative rates: ``learning_rate * layer_decay ** depth``, from the heads down.

    Howard and Ruder, 2018, "Universal language model fine-tuning for text classification", section 3.2.
    https://arxiv.org/abs/1801.06146 (Their decay is 1 / 2.6.)

    :param layer_decay: in (0, 1]; at 1 all learn at the same rate. See :func:`depths`.
    """
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay must be in (0, 1], got {layer_decay}")
    depth_of, by_depth = depths(model), defaultdict(list)
    for name, weight in trainable(model):
        by_depth[depth_of.get(weight, 0)].append((name, weight))
    groups = [
        {**group, "lr": learning_rate * layer_decay**depth}
        for depth, named in sorted(by_depth.items())
        for group in split_by_decay(named, weight_decay=weight_decay)
    ]
    return [group for group in groups if group["params"]]


def depths(model: MultiTaskModel) -> dict[nn.Parameter, int]:
    """How far below the heads each of the encoder's L layers is: the top one 1, the embedding block L + 1.

    What else the encoder has (ELECTRA's projection, DeBERTa's relative positions, which all layers share, ModernBERT's
    last norm) counts with the embedding block [choice]: nothing that a layer uses learns faster than that layer.
    """
    stack = layers(model.encoder)
    found = dict.fromkeys(model.encoder.parameters(), len(stack) + 1)
    for depth, layer in enumerate(reversed(stack), start=1):
        found |= dict.fromkeys(layer.parameters(), depth)
    return found


def freeze(model: MultiTaskModel, site: str) -> None:
    """Stop the training of everything up to a site; to be called before :func:`make_optimizer`.

    :param site: ``embeddings``: the embedding block. ``layer:<r>``: that and layers 1 to r, with what lies between
        (ELECTRA's projection). ``encoder``: all of it, which leaves the pooler and the heads.
    :raises ConfigError: for any other value, or a layer that the encoder does not have.
    """
    if not re.fullmatch("embeddings|layer:[0-9]+|encoder", site):
        raise ConfigError(f"freeze: {unknown('site', site, FREEZABLE)}")
    frozen = model.encoder.parameters() if site == "encoder" else weights_up_to(model, site)
    for weight in frozen:
        weight.requires_grad_(False)


def weights_up_to(model: MultiTaskModel, site: str) -> Sequence[nn.Parameter]:
    """The encoder's weights up to a site: those registered no later than the last of the site's own."""
    *_, module = modules_up_to(model.encoder, site).values()
    weights, own = list(model.encoder.parameters()), set(module.parameters())
    return weights[: 1 + max(place for place, weight in enumerate(weights) if weight in own)]


def adamw(*, beta1: Share = 0.9, beta2: Share = 0.999, eps: Positive = 1e-8) -> MakeOptimizer:
    """AdamW (Loshchilov and Hutter, 2019), fused.

    :param beta1: momentum of the gradient's mean, in [0, 1).
    :param beta2: momentum of its square's mean, in [0, 1).
    :param eps: added to the root of the second, above 0.
    """
    return partial(AdamW, betas=(beta1, beta2), eps=eps, fused=True)


def radam(*, beta1: Share = 0.9, beta2: Share = 0.999, eps: Positive = 1e-8) -> MakeOptimizer:
    """Rectified Adam (Liu et al., 2020), with decoupled weight decay [choice]; options as :func:`adamw`'s."""
    return partial(RAdam, betas=(beta1, beta2), eps=eps, decoupled_weight_decay=True)


def adamax(*, beta1: Share = 0.9, beta2: Share = 0.999, eps: Positive = 1e-8) -> MakeOptimizer:
    """Adam with the infinity norm (Kingma and Ba, 2015, section 7.1); options as :func:`adamw`'s.

    Weight decay is added to the gradient, as torch has it.
    """
    return partial(Adamax, betas=(beta1, beta2), eps=eps)


def sgd(*, momentum: Share = 0.9, nesterov: bool = False) -> MakeOptimizer:
    """Gradient descent with momentum; weight decay is added to the gradient.

    :param momentum: in [0, 1); 0 for none.
    :param nesterov: look ahead along the momentum, which must then be above 0.
    """
    if nesterov and momentum == 0:
        raise ValueError("nesterov needs a momentum above 0, got 0")
    return partial(SGD, momentum=momentum, nesterov=nesterov)


def linear() -> MakeSchedule:
    """Linear warm-up, then linearly to 0."""
    return get_linear_schedule_with_warmup


def cosine(*, num_cycles: Positive = 0.5) -> MakeSchedule:
    """Linear warm-up, then along a cosine from its top.

    :param num_cycles: waves of the cosine, above 0; half a wave ends at 0.
    """
    return partial(get_cosine_schedule_with_warmup, num_cycles=num_cycles)


def constant() -> MakeSchedule:
    """Linear warm-up, then the full rate."""
    return lambda optimizer, num_warmup, _: get_constant_schedule_with_warmup(optimizer, num_warmup)


def polynomial(*, power: Positive = 1.0, end_factor: Share = 0.0) -> MakeSchedule:
    """Linear warm-up, then down to ``end_factor`` along a power of what is left of the run.

    :param power: above 0; at 1 a straight line, larger ones fall earlier.
    :param end_factor: the last rate as a share of the full one, in [0, 1).
    """

    def make(optimizer: Optimizer, num_warmup: int, num_steps: int) -> LambdaLR:
        last = end_factor * optimizer.defaults["lr"]
        num_warmup = min(num_warmup, num_steps - 1)  # transformers divides by the steps that follow
        made = get_polynomial_decay_schedule_with_warmup(optimizer, num_warmup, num_steps, lr_end=last, power=power)
        return cast(LambdaLR, made)

    return make


def slanted_triangular(*, cut_frac: Share = 0.1, ratio: Annotated[Positive, Field(ge=1)] = 32.0) -> MakeSchedule:
    """A short linear rise, then a long linear fall; ``warmup`` is not used, the rise is ``cut_frac``.

    Howard and Ruder, 2018, section 3.2, equation 3. https://arxiv.org/abs/1801.06146 The fall takes the steps that
    there are, T - cut; the equation's cut (1 / cut_frac - 1) is the same where cut_frac T is whole, and less elsewhere,
    so that the rate would end below 0 [choice].

    :param cut_frac: share of the steps over which the rate rises, in [0, 1).
    :param ratio: the full rate over the first and the last, at least 1.
    """

    def factor(step: int, num_steps: int) -> float:
        cut = int(num_steps * cut_frac)
        height = step / cut if step < cut else 1 - (step - cut) / (num_steps - cut)
        return (1 + height * (ratio - 1)) / ratio

    return without_warmup(factor)


def robert(*, cut: Annotated[Share, Field(gt=0)] = 0.25) -> MakeSchedule:
    """RO-BERT's triangle: from the rate up to three times the rate and back; ``warmup`` is not used.

    The printed formula jumps and reaches 0; this is its continuous form [choice], over the run's progress u:
    x (1 + 2 u / cut) up to ``cut``, then x (1 + 2 (1 - u) / (1 - cut)).

    :param cut: the progress at which the rate is highest, in (0, 1).
    """

    def factor(step: int, num_steps: int) -> float:
        progress = step / num_steps
        return 1 + 2 * (progress / cut if progress <= cut else (1 - progress) / (1 - cut))

    return without_warmup(factor)


def without_warmup(factor: Callable[[int, int], float]) -> MakeSchedule:
    """The schedule with the factor of (step, steps of the run) at each step; after the end it stays where it is."""
    return lambda optimizer, _, num_steps: LambdaLR(optimizer, lambda step: factor(min(step, num_steps), num_steps))


OPTIMIZERS: Mapping[str, Callable[..., MakeOptimizer]] = {f.__name__: f for f in (adamw, radam, adamax, sgd)}
SCHEDULES: Mapping[str, Callable[..., MakeSchedule]] = {
    f.__name__: f for f in (linear, cosine, constant, polynomial, slanted_triangular, robert)
}
ADAMW: Mapping[str, Any] = {"type": "adamw"}
LINEAR: Mapping[str, Any] = {"type": "linear"}


def make_optimizer(
    model: MultiTaskModel,
    *,
    learning_rate: float,
    weight_decay: float,
    optimizer: Mapping[str, Any] = ADAMW,
    layer_decay: float | None = None,
) -> Optimizer:
    """The optimizer of what is not frozen.

    :param learning_rate: the full rate: the schedule's factor 1, and the heads'. Above 0.
    :param weight_decay: at least 0; not on biases and LayerNorm.
    :param optimizer: ``type``, one of :data:`OPTIMIZERS`, and its options.
    :param layer_decay: of the rates from the heads down, in (0, 1] (:func:`layerwise_groups`); None for one rate.
    :raises ConfigError: with all faults in the options.
    """
    make = chosen("optimizer", OPTIMIZERS, optimizer)
    if layer_decay is None:
        return make(parameter_groups(model, weight_decay=weight_decay), lr=learning_rate)
    groups = layerwise_groups(model, learning_rate=learning_rate, weight_decay=weight_decay, layer_decay=layer_decay)
    return make(groups, lr=learning_rate)


def make_schedule(
    optimizer: Optimizer, *, num_steps: int, warmup: float, schedule: Mapping[str, Any] = LINEAR
) -> LambdaLR:
    """The learning rate over a run.

    :param num_steps: optimizer steps of the run, at least 1.
    :param warmup: share of them over which the rate rises from 0, in [0, 1); the schedules with a rise of their own,
        ``slanted_triangular`` and ``robert``, do not use it.
    :param schedule: ``type``, one of :data:`SCHEDULES`, and its options.
    :raises ConfigError: with all faults in the options.
    """
    return chosen("schedule", SCHEDULES, schedule)(optimizer, round(warmup * num_steps), num_steps)


def full_optimization(options: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every option of the ``optimizer`` and ``schedule`` that are named: what is said, else the default."""
    known: Mapping[str, Mapping[str, Callable[..., Any]]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
    return {kind: {**defaults_of(named[options[kind]["type"]]), **options[kind]} for kind, named in known.items()}


def optimizer_faults(options: Mapping[str, Any], *, where: str) -> list[str]:
    """What is wrong with the options of an optimizer: its name, their names, types and ranges."""
    return faults_in("optimizer", OPTIMIZERS, options, where=where)


def schedule_faults(options: Mapping[str, Any], *, where: str) -> list[str]:
    """What is wrong with the options of a schedule: its name, their names, types and ranges."""
    return faults_in("schedule", SCHEDULES, options, where=where)


def faults_in(
    kind: str, known: Mapping[str, Callable[..., Any]], options: Mapping[str, Any], *, where: str
) -> list[str]:
    if "type" not in options:
        return [f"{where}: 'type' is missing; one of: {', '.join(sorted(known))}"]
    name = str(options["type"])
    if name not in known:
        return [f"{where}: {unknown(kind, name, known)}"]
    given = {option: value for option, value in options.items() if option != "type"}
    faults = option_faults(known[name], given, name=name, where=where)
    return faults or refusal(partial(known[name], **given), where=where)


def refusal(call: Callable[[], Any], *, where: str) -> list[str]:
    """What a function says against options that do not go together."""
    try:
        call()
    except ValueError as error:
        return [f"{where}: {error}"]
    return []


def chosen(kind: str, known: Mapping[str, Callable[..., T]], options: Mapping[str, Any]) -> T:
    """What the function that ``options`` name makes of the other options."""
    faults = faults_in(kind, known, options, where=kind)
    if faults:
        raise ConfigError(listed(faults))
    return known[options["type"]](**{option: value for option, value in options.items() if option != "type"})


Precision = Literal["auto", "fp32", "bf16"]
# What autocast is asked for.
PRECISIONS: Mapping[Precision, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


def autocast_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """bf16 where asked for, or where the hardware multiplies it fast; else None. fp32 master weights either way."""
    if precision == "fp32" or (precision == "auto" and not has_fast_bf16(device)):
        return None
    return torch.bfloat16


def settled(precision: Precision, device: torch.device) -> Precision:
    """``fp32`` or ``bf16``: what ``auto`` is on a device, and what else was asked for."""
    found = autocast_dtype(precision, device)
    return next(name for name, dtype in PRECISIONS.items() if dtype == found)


def in_precision(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """While entered, products run in the precision that :func:`autocast_dtype` chooses."""
    dtype = autocast_dtype(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = (
        getattr(torch.cpu, name, lambda: False) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    )
    return device.type == "cpu" and any(flag() for flag in flags)


def clip(weights: Iterable[torch.nn.Parameter], *, max_norm: float) -> torch.Tensor:
    """Clip to the global norm; returns the norm before."""
    return nn.utils.clip_grad_norm_(list(weights), max_norm)
