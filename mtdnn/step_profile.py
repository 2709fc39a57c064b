"""Where the time of a training step goes, and how near it comes to what the machine multiplies.

Times are the profiler's self times, an operation's without those that it calls, so that none counts twice. An operation
counts for the part of the step that its name tells. One whose name tells none, such as an addition, counts with what
calls it, in a backward pass with the operation whose gradient it computes, and else as ``other``.
"""

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mtdnn.data.tokenize import Positions
from mtdnn.dropout import DropoutTape
from mtdnn.forecast import padded_tokens
from mtdnn.memory import memory_for
from mtdnn.train_plan import Plan, Step
from mtdnn.trainer import Trainer

TIMED, PROFILED = 5, 3  # steps, after one that warms up
PRODUCT_ROWS = 4096  # at least; fewer would measure how fast a product begins
SILENT = "99"  # above every level at which Kineto logs
STEP, MARK = "mtdnn step", "mtdnn part: "  # regions of our own in the profile; the second with the part's name

PRODUCTS, ATTENTION, DROPOUT, NORMS = "products", "attention", "dropout", "norms, activations"
COPIES, OPTIMIZER, DATA, OTHER, OVERHEAD = "copies", "optimizer", "data", "other", "overhead"
MEANING: Mapping[str, str] = {
    PRODUCTS: "linear layers and convolutions, forwards and backwards",
    ATTENTION: "softmax and all batched products, or the fused kernel",
    DROPOUT: "drawing masks and multiplying by them",
    NORMS: "layer norms, gelu, tanh and the like",
    COPIES: "copies and conversions, wherever they are but in the next two",
    OPTIMIZER: "clipping, the update, and what regularizers do after it",
    DATA: "making the batch, or waiting for it",
    OTHER: "other operations: embeddings, residual sums, losses, noise",
    OVERHEAD: "Python and autograd between operations, and the profiler's own; of a GPU, its waiting",
}
WHOLE = (OPTIMIZER, DATA)  # all that happens inside counts
NAMES: Mapping[str, re.Pattern[str]] = {
    PRODUCTS: re.compile(r"(add)?m[mv]|matmul|linear|_scaled_mm|\w*conv(olution|\dd)\w*"),
    ATTENTION: re.compile(
        r"(badd)?bmm|_?softmax(_backward_data)?|_fused_sdp_choice|\w*(dot_product|flash|efficient)_\w*attention\w*"
    ),
    DROPOUT: re.compile(r"random_|bernoulli_?|\w*dropout(_backward)?"),
    NORMS: re.compile(
        r"\w*(layer|batch|group|rms)_norm(_backward)?|(gelu|tanh|relu|silu|elu|sigmoid|mish|threshold)(_|_backward)?"
    ),
    COPIES: re.compile(r"copy_|contiguous|clone|to|_to_copy|cat"),
}
REGIONS = ((DropoutTape, "_attention", ATTENTION), (DropoutTape, "_dropout", DROPOUT), (Trainer, "update", OPTIMIZER))
OPERATION = re.compile(r"(?!autograd::|torch::)\w+::\S+")

Planned = Sequence[tuple[str, Positions]]  # task and units of each micro-batch
Shares = Mapping[str, float]


@dataclass(frozen=True)
class StepProfile:
    """What was measured of a training step.

    :param batches: (task, rows, padded tokens of a row) of each micro-batch.
    :param seconds: of a step with the making of its batches, not profiled; the median.
    :param shares: of the parts of :data:`MEANING`, which sum to 1: of the time of the ``CPU``, and of a ``GPU``.
    :param flops: of the products and the attention of a step; an addition and a multiplication count as two.
    :param machine_rate: FLOP a second of a product by the largest linear layer, in the precision of the step.
    """

    batches: Sequence[tuple[str, int, int]]
    seconds: float
    shares: Mapping[str, Shares]
    flops: int
    machine_rate: float

    @property
    def rate(self) -> float:
        """FLOP a second."""
        return self.flops / self.seconds


def typical_step(plan: Plan) -> Planned:
    """The step of the first epoch with the median number of padded tokens."""
    steps = plan.epoch(0)
    tokens = [sum(padded_tokens(plan.data[task], units) for task, units in step) for step in steps]
    return steps[np.argsort(tokens, kind="stable")[(len(steps) - 1) // 2]]


def profile_of(trainer: Trainer, planned: Planned) -> StepProfile:
    """Train on the planned step again and again: to warm up, for the time, for the FLOPs, in the profiler."""
    with closing(trainer.made([planned] * (1 + TIMED + 1 + PROFILED))) as steps:
        sizes = [(batch.task, *batch.mask_NT.shape) for batch in take(trainer, steps).batches]
        product = large_product(trainer, rows=sum(rows * tokens for _, rows, tokens in sizes))
        seconds, product_seconds = alternated(lambda: take(trainer, steps), product, device=trainer.model.device)
        flops = flops_of(lambda: take(trainer, steps))
        shares = shares_of(trainer, steps, seconds)
    return StepProfile(sizes, seconds, shares, flops, flops_of(product) / product_seconds)


def take(trainer: Trainer, steps: Generator[Step]) -> Step:
    """Make a step's batches and train on them."""
    with record_function(MARK + DATA):
        step = next(steps)
    with memory_for(step.batches, doing="profiling"):
        trainer.take(step)
    return step


def alternated(*works: Callable[[], Any], device: torch.device) -> list[float]:
    """The median seconds of each, in turns: what else the machine does slows them alike."""
    rounds = [[seconds_of(work, device) for work in works] for _ in range(TIMED)]
    return [median(times) for times in zip(*rounds, strict=True)]


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def flops_of(work: Callable[[], Any]) -> int:
    """Those of products and attention, by their shapes."""
    aten = torch.ops.aten  # torch's counter knows the fused attention of GPUs alone
    on_cpu = {
        aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        work()
    return int(counter.get_total_flops())


def attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Of fused attention, by the shapes of what it takes."""
    return int(sdpa_flop_count(query, key, value))


def attention_backward_flops(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


def large_product(trainer: Trainer, *, rows: int) -> Callable[[], torch.Tensor]:
    """A product of so many rows, or more, by a matrix like the weights of the largest linear layer; run once."""
    device, dtype = trainer.model.device, trainer.dtype
    weights = [each.weight for each in trainer.model.modules() if isinstance(each, nn.Linear)]
    width, inner = max(weights, key=torch.Tensor.numel).shape
    source = torch.Generator(device).manual_seed(0)
    left = torch.rand(max(rows, PRODUCT_ROWS), inner, generator=source, device=device, dtype=dtype)
    right = torch.rand(inner, width, generator=source, device=device, dtype=dtype)
    seconds_of(lambda: left @ right, device)
    return lambda: left @ right


def shares_of(trainer: Trainer, steps: Generator[Step], seconds: float) -> dict[str, Shares]:
    """The shares of the parts in profiled steps.

    :param seconds: of a step that is not profiled: what a GPU does not work of it, it waits.
    """
    device = trainer.model.device
    with profiling(device) as profiler:
        for _ in range(PROFILED):
            with record_function(STEP):
                seconds_of(lambda: take(trainer, steps), device)
    events = profiler.events() or []
    on_cpu, on_gpu = times_of(events)
    found = {"CPU": normalised(on_cpu, profiled_seconds(events))}
    return found if device.type == "cpu" else found | {"GPU": normalised(on_gpu, PROFILED * seconds)}


@contextmanager
def profiling(device: torch.device) -> Iterator[profile]:
    """The profiler while it is entered, with the regions of a step marked."""
    os.environ.setdefault("KINETO_LOG_LEVEL", SILENT)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with ExitStack() as stack:
        for owner, method, part in REGIONS:
            stack.enter_context(marked(owner, method, part))
        yield stack.enter_context(profile(activities=activities))


@contextmanager
def marked(owner: type, method: str, part: str) -> Iterator[None]:
    """While entered, a method's work is a region of the profile."""
    own = getattr(owner, method)

    def within(*args: Any, **kwargs: Any) -> Any:
        with record_function(MARK + part):
            return own(*args, **kwargs)

    setattr(owner, method, within)
    try:
        yield
    finally:
        setattr(owner, method, own)


def profiled_seconds(events: Iterable[FunctionEvent]) -> float:
    """Of the profiled steps, by the profiler's clock, which is not quite any other's."""
    return float(sum(event.cpu_time_total for event in events if event.name == STEP)) / 1e6


def times_of(events: Iterable[FunctionEvent]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of each part on the CPU, and on a GPU by what was launched."""
    called = [event for event in events if event.device_type.name == "CPU"]
    sources = differentiated(called)
    on_cpu: dict[str, float] = defaultdict(float)
    on_gpu: dict[str, float] = defaultdict(float)
    for event in called:
        part = part_of(event, sources)
        if not event.is_user_annotation:  # a region spans the kernels of its operations
            on_gpu[part] += event.self_device_time_total / 1e6
        if part in WHOLE or is_work(event.name):
            on_cpu[part] += event.self_cpu_time_total / 1e6
    return on_cpu, on_gpu


def is_work(name: str) -> bool:
    """An operation of torch or a region of ours, not a node of autograd."""
    return name.startswith(MARK) or OPERATION.fullmatch(name) is not None


def differentiated(events: Iterable[FunctionEvent]) -> dict[tuple[int, int], FunctionEvent]:
    """The forward operation of each autograd node, by its thread and number.

    Operations bear the number of the next node to come; the last one that does makes it.
    """
    forward = [event for event in events if event.sequence_nr >= 0 and not event.fwd_thread]
    return {(event.thread, event.sequence_nr): event for event in sorted(forward, key=lambda e: e.time_range.start)}


def part_of(event: FunctionEvent, sources: Mapping[tuple[int, int], FunctionEvent]) -> str:
    """What an operation counts for."""
    found = [part for each in callers(event, sources) if (part := part_named(each.name))]
    return next((part for part in found if part in WHOLE), next(iter(found), OTHER))


def callers(event: FunctionEvent, sources: Mapping[tuple[int, int], FunctionEvent]) -> Iterator[FunctionEvent]:
    """The operation, what calls it, and so on; above an autograd node stands the operation that it differentiates."""
    at: FunctionEvent | None = event
    while at is not None:
        yield at
        source = sources.get((at.fwd_thread, at.sequence_nr)) if at.fwd_thread else None
        at = source or at.cpu_parent


@cache
def part_named(name: str) -> str | None:
    """The part that a name tells: a region's, or a torch operation's."""
    if name.startswith(MARK):
        return name.removeprefix(MARK)
    operation = name.removeprefix("aten::")
    return next((part for part, pattern in NAMES.items() if pattern.fullmatch(operation)), None)


def normalised(seconds: Mapping[str, float], whole: float) -> Shares:
    """Each part's share; what the operations leave of the whole is overhead."""
    every = {**seconds, OVERHEAD: max(0.0, whole - sum(seconds.values()))}
    total = sum(every.values())
    return {part: every.get(part, 0.0) / total for part in MEANING}
