"""Where the time of a step goes: what counts for which part, and FLOPs against those counted by hand."""

import gc
import re
import subprocess
import time
from contextlib import closing

import pytest
import torch
import torch.nn.functional as F
from support import MTDNN, own_process, write_toy_experiment
from torch import nn
from torch.profiler import record_function
from toy_training import toy_data, trainer_for

from mtdnn.dropout import DropoutTape
from mtdnn.forecast import padded_tokens
from mtdnn.objectives.freelb import FreeLb
from mtdnn.step_profile import (
    ATTENTION,
    COPIES,
    DATA,
    DROPOUT,
    MARK,
    MEANING,
    NORMS,
    OPTIMIZER,
    OTHER,
    OVERHEAD,
    PRODUCT_ROWS,
    PRODUCTS,
    STEP,
    TIMED,
    alternated,
    differentiated,
    flops_of,
    is_work,
    large_product,
    normalised,
    part_named,
    part_of,
    profile_of,
    profiled_seconds,
    profiling,
    take,
    times_of,
    typical_step,
)
from mtdnn.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def uncollected():
    """No garbage is collected meanwhile: that may take longer than a toy's step."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def begun(toy, **options):
    trainer = trainer_for(toy, select="last", **options)
    trainer.begin()
    return trainer


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (PRODUCTS, "mm addmm mv addmv matmul linear convolution conv1d mkldnn_convolution convolution_backward"),
        (ATTENTION, "bmm baddbmm softmax _softmax _softmax_backward_data scaled_dot_product_attention"),
        (ATTENTION, "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_efficient_attention_backward"),
        (DROPOUT, "random_ bernoulli_ dropout native_dropout native_dropout_backward"),
        (NORMS, "layer_norm native_layer_norm native_layer_norm_backward gelu gelu_backward tanh tanh_backward relu"),
        (COPIES, "copy_ contiguous clone to _to_copy cat"),
        (None, "add mul mul_ sum embedding view t transpose comm log_softmax normal_ tolist"),
    ],
)
def test_an_operation_s_name_tells_its_part(part, names):
    assert {part_named(f"aten::{name}") for name in names.split()} == {part}


def test_autograd_s_nodes_are_no_work_and_regions_are():
    assert is_work("aten::mm")
    assert is_work(MARK + DROPOUT)
    node = "autograd::engine::evaluate_function: MmBackward0"
    assert not any(map(is_work, ["MmBackward0", "torch::autograd::AccumulateGrad", node]))


def parts_by_name(profiler):
    events = profiler.events()
    sources, found = differentiated(events), {}
    for event in events:
        if is_work(event.name):
            found.setdefault(event.name, set()).add(part_of(event, sources))
    return found


def test_multiplications_by_a_mask_count_for_dropout_in_both_passes():
    """Forwards by the mask and by the scale, backwards by both; the factor 3 is not dropout's."""
    weight = torch.ones(8, 8, requires_grad=True)
    with profiling(CPU) as profiler, DropoutTape(torch.Generator().manual_seed(0)):
        F.dropout(weight, 0.5).sum().backward()
    found = parts_by_name(profiler)
    assert sum(event.name == "aten::mul" for event in profiler.events()) == 3
    assert found["aten::mul"] == found["aten::mul_"] == found["aten::random_"] == found["aten::ge"] == {DROPOUT}
    with profiling(CPU) as profiler:
        (weight * 3).sum().backward()
    assert parts_by_name(profiler)["aten::mul"] == {OTHER}


def test_attention_that_is_written_out_counts_as_attention_but_for_its_dropout():
    query = torch.ones(2, 2, 4, 8, requires_grad=True)
    with profiling(CPU) as profiler, DropoutTape(torch.Generator().manual_seed(0)):
        F.scaled_dot_product_attention(query, query, query, dropout_p=0.5).sum().backward()
    found = parts_by_name(profiler)
    assert found["aten::bmm"] == found["aten::_softmax"] == found["aten::_softmax_backward_data"] == {ATTENTION}
    assert found["aten::mul"] == {ATTENTION, DROPOUT}
    assert found["aten::mul_"] == {DROPOUT}


def test_everything_inside_the_update_and_the_making_of_a_batch_counts_for_them(toy):
    trainer = begun(toy)
    with closing(trainer.made([typical_step(trainer.plan)])) as steps, profiling(CPU) as profiler:
        take(trainer, steps)
    events = profiler.events()
    sources = differentiated(events)
    for part, region in ((OPTIMIZER, MARK + OPTIMIZER), (DATA, MARK + DATA)):
        inside = [each for each in events if each.cpu_parent is not None and each.cpu_parent.name == region]
        assert len(inside) > 1
        assert {part_of(each, sources) for each in inside} == {part}
    assert parts_by_name(profiler)["aten::_fused_adamw_"] == {OPTIMIZER}


def test_nothing_counts_twice(toy, uncollected):
    trainer = begun(toy)
    with closing(trainer.made([typical_step(trainer.plan)] * 2)) as steps:
        take(trainer, steps)
        with profiling(CPU) as profiler, record_function(STEP):
            take(trainer, steps)
    seconds, on_gpu = times_of(profiler.events())
    whole = profiled_seconds(profiler.events())
    assert 0.3 * whole < sum(seconds.values()) <= whole
    assert not any(on_gpu.values())


def test_what_the_operations_leave_is_overhead():
    found = normalised({PRODUCTS: 1.0, DATA: 0.5}, 2.0)
    assert list(found) == list(MEANING)
    assert (found[PRODUCTS], found[DATA], found[OVERHEAD]) == (0.5, 0.25, 0.25)
    assert normalised({PRODUCTS: 3.0}, 2.0)[OVERHEAD] == 0.0


@pytest.mark.parametrize(
    "options",
    [{}, {"regularizers": {}, "objective": FreeLb(num_steps=2)}, {"activation_checkpointing": True, "accumulate": 2}],
    ids=["smart and bregman", "freelb", "activation checkpointing"],
)
def test_a_profile_has_every_part_of_the_whole_method(toy, options):
    own = DropoutTape._dropout, DropoutTape._attention, Trainer.update
    found = profile_of(trainer := begun(toy, **options), typical_step(trainer.plan))
    assert own == (DropoutTape._dropout, DropoutTape._attention, Trainer.update)
    assert list(found.shares) == ["CPU"]
    assert list(found.shares["CPU"]) == list(MEANING)
    assert sum(found.shares["CPU"].values()) == pytest.approx(1)
    assert all(share > 0 for share in found.shares["CPU"].values())
    assert found.rate == found.flops / found.seconds > 0
    assert len(found.batches) == options.get("accumulate", 1)


def test_the_typical_step_has_the_median_number_of_padded_tokens(toy):
    plan = trainer_for(toy, select="last").plan

    def tokens(step):
        return sum(padded_tokens(plan.data[task], units) for task, units in step)

    every = sorted(map(tokens, plan.epoch(0)))
    assert tokens(typical_step(plan)) == every[(len(every) - 1) // 2]
    assert every[0] < every[-1]


def test_flops_of_a_linear_layer_are_those_counted_by_hand():
    """Forwards one product, backwards one for the weights and one for the input: 2 N D E each."""
    layer, rows = nn.Linear(5, 7), torch.ones(3, 5, requires_grad=True)
    assert flops_of(lambda: layer(rows)) == 2 * 3 * 5 * 7
    assert flops_of(lambda: layer(rows).sum().backward()) == 3 * (2 * 3 * 5 * 7)


def test_fused_attention_on_the_cpu_is_counted():
    """Two products of 2 N H T T D forwards; backwards four, and the scores once more."""
    query = torch.ones(2, 3, 4, 8, requires_grad=True)
    product = 2 * 2 * 3 * 4 * 4 * 8
    assert flops_of(lambda: F.scaled_dot_product_attention(query, query, query)) == 2 * product
    whole = flops_of(lambda: F.scaled_dot_product_attention(query, query, query).sum().backward())
    assert whole == (2 + 5) * product


def test_flops_of_a_plain_step_of_a_tiny_bert_are_those_counted_by_hand(toy):
    """2 layers of width D = 32 with F = 64, a head with 3 labels; backwards twice the products of forwards.

    A token takes of a layer 4 D D (query, key, value, output) + 2 D F, and with each of its row 2 D (scores, values).
    """
    trainer = begun(toy, tasks=["nli"], regularizers={})
    with closing(trainer.made([typical_step(trainer.plan)])) as steps:
        (batch,) = next(steps).batches
    rows, tokens = batch.mask_NT.shape
    found = profile_of(trainer, typical_step(trainer.plan))
    a_layer = rows * tokens * (4 * 32 * 32 + 2 * 32 * 64 + 2 * tokens * 32)
    assert found.batches == [("nli", rows, tokens)]
    assert found.flops == 3 * 2 * (2 * a_layer + rows * 32 * 3)


def test_the_machine_s_product_is_by_the_largest_layer_and_large(toy):
    """32 x 64 of the feed-forward block."""
    trainer = begun(toy)
    assert flops_of(large_product(trainer, rows=5000)) == 2 * 5000 * 32 * 64
    assert flops_of(large_product(trainer, rows=1)) == 2 * PRODUCT_ROWS * 32 * 64


def test_what_is_compared_is_timed_in_turns():
    order = []
    first, second = alternated(lambda: order.append("a") or time.sleep(0.02), lambda: order.append("b"), device=CPU)
    assert order == ["a", "b"] * TIMED
    assert first >= 0.02 > second


@pytest.mark.slow
def test_the_doctor_prints_the_tables(tmp_path):
    write_toy_experiment(tmp_path)
    systems = "systems={mtdnn: [joint], single: [{name: tune, kind: finetune, tasks: [sts]}]}"
    command = [*MTDNN, "doctor", "toy.yaml", "--task-defs", "tasks", "--profile", "--set", systems]
    done = subprocess.run(
        command, cwd=tmp_path, env=own_process(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "USDT" not in done.stderr
    shares, speeds = done.stdout.split("where the time of a step goes")[1].split("how near that comes")
    for stage in ("mtdnn/joint/joint", "single/tune/sts"):
        (row,) = re.findall(rf"^. {stage} .*$", shares, flags=re.MULTILINE)
        percent = [float(each) for each in re.findall(r"([\d.]+)%", row)]
        assert len(percent) == len(MEANING)
        assert sum(percent) == pytest.approx(100, abs=0.5)
        assert re.search(rf"{stage} .* (nli|sts|rank): \d+ x \d+ .*\d+%", speeds)
    assert all(f"\n{part}: " in speeds for part in MEANING)
