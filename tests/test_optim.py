"""Optimizers, schedules and rates by layer, against torch's own and against closed forms."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import LAYERED, NLI, toy_batch, toy_model

from mtdnn.checkpoint import optimizer_parts, restore_optimizer, restore_schedule
from mtdnn.errors import ConfigError
from mtdnn.optim import (
    OPTIMIZERS,
    SCHEDULES,
    adamw,
    freeze,
    is_exempt,
    make_optimizer,
    make_schedule,
    optimizer_faults,
    schedule_faults,
    trainable,
)

RATES = {"learning_rate": 0.01, "weight_decay": 0.1}


def small_model(family="bert", **changes):
    return toy_model(family, tasks=(NLI,), **changes)


def take_steps(model, optimizer, count, *, schedule=None):
    for _ in range(count):
        optimizer.zero_grad()
        model.eval().loss(model(toy_batch("nli")), toy_batch("nli")).sum().backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()


def weights_of(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def torchs_own(name, model):
    """The optimizer as one would write it without this package."""
    named = list(model.named_parameters())
    groups = [
        {"params": [w for n, w in named if not is_exempt(n)], "weight_decay": 0.1},
        {"params": [w for n, w in named if is_exempt(n)], "weight_decay": 0.0},
    ]
    return {
        "adamw": lambda: torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999), eps=1e-8, fused=True),
        "radam": lambda: torch.optim.RAdam(groups, lr=0.01, decoupled_weight_decay=True),
        "adamax": lambda: torch.optim.Adamax(groups, lr=0.01),
        "sgd": lambda: torch.optim.SGD(groups, lr=0.01, momentum=0.9),
    }[name]()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_steps_are_those_of_torchs_own_optimizer(name):
    ours, theirs = small_model(), small_model()
    take_steps(ours, make_optimizer(ours, **RATES, optimizer={"type": name}), 2)
    take_steps(theirs, torchs_own(name, theirs), 2)
    assert same(weights_of(ours), weights_of(theirs))
    assert not same(weights_of(ours), weights_of(small_model()))


def test_sgd_without_momentum_is_the_rate_times_the_gradient_and_the_decay():
    model = small_model()
    before = weights_of(model)
    optimizer = make_optimizer(model, **RATES, optimizer={"type": "sgd", "momentum": 0.0})
    take_steps(model, optimizer, 1)
    for name, weight in model.named_parameters():
        decay = 0.0 if is_exempt(name) else 0.1
        torch.testing.assert_close(weight, before[name] - 0.01 * (weight.grad + decay * before[name]))


@pytest.mark.parametrize(
    ("options", "key", "value"),
    [
        ({"type": "adamw", "beta1": 0.8, "beta2": 0.98, "eps": 1e-6}, "betas", (0.8, 0.98)),
        ({"type": "adamw", "eps": 1e-6}, "eps", 1e-6),
        ({"type": "radam", "beta2": 0.98}, "betas", (0.9, 0.98)),
        ({"type": "radam"}, "decoupled_weight_decay", True),
        ({"type": "adamax", "beta1": 0.8}, "betas", (0.8, 0.999)),
        ({"type": "sgd", "nesterov": True}, "nesterov", True),
        ({"type": "sgd", "momentum": 0}, "momentum", 0),
    ],
)
def test_options_reach_torch(options, key, value):
    groups = make_optimizer(small_model(), **RATES, optimizer=options).param_groups
    assert [group[key] for group in groups] == [value] * len(groups)


def test_one_rate_makes_the_two_groups_of_decay_and_no_decay():
    model = small_model()
    decayed, exempt = make_optimizer(model, **RATES).param_groups
    names = {weight: name for name, weight in model.named_parameters()}
    assert [names[w] for w in decayed["params"]] == [n for n in names.values() if not is_exempt(n)]
    assert [names[w] for w in exempt["params"]] == [n for n in names.values() if is_exempt(n)]
    assert [(g["lr"], g["weight_decay"]) for g in (decayed, exempt)] == [(0.01, 0.1), (0.01, 0.0)]


LAYER = {"distilbert": "encoder.transformer.layer", "modernbert": "encoder.layers"}


@pytest.mark.parametrize("family", LAYERED)
def test_rates_fall_by_the_decay_from_the_heads_to_the_embeddings(family):
    model = small_model(family, spread=0.1)
    names = {weight: name for name, weight in model.named_parameters()}
    groups = make_optimizer(model, **RATES, layer_decay=0.5).param_groups
    stack = LAYER.get(family, "encoder.encoder.layer")
    full = {f"{stack}.1.": 0.005, f"{stack}.0.": 0.0025, "encoder.": 0.00125, "heads.": 0.01}
    seen = []
    for group in groups:
        for weight in group["params"]:
            name = names[weight]
            seen.append(name)
            assert group["lr"] == next(rate for start, rate in full.items() if name.startswith(start)), name
            assert group["weight_decay"] == (0.0 if is_exempt(name) else 0.1), name
    assert sorted(seen) == sorted(names.values())
    assert {group["lr"] for group in groups} == set(full.values())


def test_the_pooler_learns_at_the_full_rate():
    model = small_model()
    model.pooler = torch.nn.Linear(8, 8)
    groups = make_optimizer(model, **RATES, layer_decay=0.5).param_groups
    rates = {weight: group["lr"] for group in groups for weight in group["params"]}
    assert rates[model.pooler.weight] == rates[model.head("nli").output.weight] == 0.01


def test_a_layer_decay_of_one_trains_as_one_rate_does():
    ours, theirs = small_model(), small_model()
    take_steps(ours, make_optimizer(ours, **RATES, layer_decay=1.0), 2)
    take_steps(theirs, make_optimizer(theirs, **RATES), 2)
    for name, weight in weights_of(theirs).items():
        torch.testing.assert_close(weights_of(ours)[name], weight)


@pytest.mark.parametrize("layer_decay", [0.0, -0.5, 1.1, math.nan])
def test_a_layer_decay_out_of_range_is_refused(layer_decay):
    with pytest.raises(ConfigError, match=rf"layer_decay must be in \(0, 1\], got {layer_decay}"):
        make_optimizer(small_model(), **RATES, layer_decay=layer_decay)


def test_a_schedule_scales_the_rates_of_all_depths_alike():
    optimizer = make_optimizer(small_model(), **RATES, layer_decay=0.5)
    full = [group["lr"] for group in optimizer.param_groups]
    options = {"type": "polynomial", "power": 2.0, "end_factor": 0.5}
    schedule = make_schedule(optimizer, num_steps=2, warmup=0.0, schedule=options)
    optimizer.step(), schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.625 * rate for rate in full])  # 1/2 + 1/2 (1/2)^2


FROZEN = {
    "embeddings": ("encoder.embeddings.",),
    "layer:1": ("encoder.embeddings.", "encoder.embeddings_project.", ".layer.0.", ".layers.0."),
    "layer:2": ("encoder.embeddings.", "encoder.embeddings_project.", ".layer.", ".layers."),
    "encoder": ("encoder.",),
}


@pytest.mark.parametrize("site", FROZEN)
@pytest.mark.parametrize("family", LAYERED)
def test_freezing_keeps_the_weights_up_to_the_site_and_trains_the_rest(family, site):
    model = small_model(family, spread=0.1)
    freeze(model, site)
    before = weights_of(model)
    take_steps(model, make_optimizer(model, **RATES), 2)
    for name, weight in model.named_parameters():
        frozen = any(part in name for part in FROZEN[site])
        assert weight.requires_grad is not frozen, name
        assert torch.equal(weight, before[name]) is frozen, name


def test_rates_by_layer_skip_what_is_frozen():
    model = small_model()
    freeze(model, "layer:1")
    groups = make_optimizer(model, **RATES, layer_decay=0.5).param_groups
    assert [group["lr"] for group in groups] == [0.01, 0.01, 0.005, 0.005]
    assert sum(len(group["params"]) for group in groups) == len(trainable(model))


@pytest.mark.parametrize(
    ("site", "message"),
    [
        ("embedings", "Did you mean 'embeddings'.*embeddings, encoder, layer:<r>"),
        ("word", "freeze: unknown site 'word'"),
        ("layer:3", "'layer:3' is not there; this encoder has layers 1 to 2"),
        ("layer:0", "'layer:0' is not there"),
        ("layer:x", "freeze: unknown site 'layer:x'"),
        ("encoder:1", "freeze: unknown site 'encoder:1'"),
        ("embeddings_twice", "freeze: unknown site"),
    ],
)
def test_a_site_that_cannot_be_frozen_is_refused_and_nothing_is_frozen(site, message):
    model = small_model()
    with pytest.raises(ConfigError, match=message):
        freeze(model, site)
    assert all(weight.requires_grad for weight in model.parameters())


CLOSED = [
    ({"type": "linear"}, lambda u: 1 - u),
    ({"type": "cosine"}, lambda u: 0.5 * (1 + math.cos(math.pi * u))),
    ({"type": "cosine", "num_cycles": 1}, lambda u: 0.5 * (1 + math.cos(2 * math.pi * u))),
    ({"type": "constant"}, lambda u: 1.0),
    ({"type": "polynomial"}, lambda u: 1 - u),
    ({"type": "polynomial", "power": 2.0, "end_factor": 0.1}, lambda u: 0.1 + 0.9 * (1 - u) ** 2),
]


def factors(options, *, num_steps, warmup=0.1, rate=0.02):
    """The rate over the full one at each step, and after the last."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule, found = make_schedule(optimizer, num_steps=num_steps, warmup=warmup, schedule=options), []
    for _ in range(num_steps):
        found.append(schedule.get_last_lr()[0] / rate)
        optimizer.step()
        schedule.step()
    return [*found, schedule.get_last_lr()[0] / rate]


@pytest.mark.parametrize(("options", "form"), CLOSED)
@pytest.mark.parametrize("warm", [0, 4])
def test_a_schedule_rises_over_the_warm_up_and_then_is_its_closed_form(options, form, warm):
    found = factors(options, num_steps=20, warmup=warm / 20)
    expected = [step / warm if step < warm else form((step - warm) / (20 - warm)) for step in range(21)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_run_without_a_choice_of_schedule_is_linear():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make_schedule(optimizer, num_steps=10, warmup=0.5)
    assert [schedule.lr_lambdas[0](step) for step in (0, 1, 5, 6, 10)] == pytest.approx([0.0, 0.2, 1.0, 0.8, 0.0])


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_the_slanted_triangle_is_equation_3_where_its_cut_is_whole(warmup):
    steps, share, ratio = 40, 0.25, 8
    cut = steps * share

    def equation(t):
        p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / share - 1))
        return (1 + p * (ratio - 1)) / ratio

    options = {"type": "slanted_triangular", "cut_frac": share, "ratio": ratio}
    assert factors(options, num_steps=steps, warmup=warmup) == pytest.approx([equation(t) for t in range(steps + 1)])


@given(num_steps=st.integers(1, 300), cut_frac=st.floats(0, 0.99), ratio=st.floats(1, 1e3))
def test_the_slanted_triangle_stays_between_its_lowest_rate_and_the_full_one_and_ends_at_the_lowest(
    num_steps, cut_frac, ratio
):
    found = factors({"type": "slanted_triangular", "cut_frac": cut_frac, "ratio": ratio}, num_steps=num_steps)
    assert all(1 / ratio - 1e-9 <= each <= 1 + 1e-9 for each in found)
    assert found[-1] == pytest.approx(1 / ratio)
    assert max(found) == pytest.approx(1)


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_roberts_triangle_goes_from_one_to_three_and_back(warmup):
    found = factors({"type": "robert"}, num_steps=16, warmup=warmup)
    assert [found[step] for step in (0, 2, 4, 10, 16)] == pytest.approx([1, 2, 3, 2, 1])  # 4 = 0.25 x 16
    later = factors({"type": "robert", "cut": 0.5}, num_steps=16)
    assert [later[step] for step in (0, 4, 8, 12, 16)] == pytest.approx([1, 2, 3, 2, 1])


@pytest.mark.parametrize("name", SCHEDULES)
@given(num_steps=st.integers(1, 30), warmup=st.floats(0, 0.999))
def test_every_schedule_is_defined_and_not_negative_at_each_step_of_any_run(name, num_steps, warmup):
    found = factors({"type": name}, num_steps=num_steps, warmup=warmup)
    assert all(0 <= each <= 3 + 1e-9 for each in found)
    assert any(found[:-1]) or num_steps == 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("layer_decay", [None, 0.5])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_that_goes_on_from_its_saved_state_ends_with_the_same_weights(name, schedule, layer_decay):
    def start(model):
        optimizer = make_optimizer(model, **RATES, optimizer={"type": name}, layer_decay=layer_decay)
        return optimizer, make_schedule(optimizer, num_steps=4, warmup=0.25, schedule={"type": schedule})

    whole = small_model()
    optimizer, scheduled = start(whole)
    take_steps(whole, optimizer, 2, schedule=scheduled)
    half = weights_of(whole)
    tensors, groups = optimizer_parts(optimizer)
    tensors = {key: value.clone() for key, value in tensors.items()}
    kept = {key: value for key, value in scheduled.state_dict().items() if key != "lr_lambdas"}
    groups, kept = json.loads(json.dumps([groups, kept]))
    take_steps(whole, optimizer, 2, schedule=scheduled)

    again = small_model()
    again.load_state_dict(half, strict=False)
    optimizer, scheduled = start(again)
    restore_optimizer(optimizer, tensors, groups)
    restore_schedule(scheduled, kept)
    take_steps(again, optimizer, 2, schedule=scheduled)
    assert same(weights_of(again), weights_of(whole))


def test_what_goes_on_keeps_the_rates_and_the_decay_that_are_asked_for_now():
    def start(**options):
        optimizer = make_optimizer(small_model(), **{**RATES, **options})
        return optimizer, make_schedule(optimizer, num_steps=4, warmup=0.0)

    optimizer, schedule = start()
    optimizer.step(), schedule.step()
    tensors, groups = optimizer_parts(optimizer)
    lower, lower_schedule = start(learning_rate=RATES["learning_rate"] / 10, weight_decay=0.5)
    restore_optimizer(lower, tensors, groups)
    restore_schedule(lower_schedule, schedule.state_dict())
    assert [group["lr"] for group in lower.param_groups] == pytest.approx([RATES["learning_rate"] / 10 * 3 / 4] * 2)
    assert lower_schedule.get_last_lr() == [group["lr"] for group in lower.param_groups]
    assert [group["weight_decay"] for group in lower.param_groups] == [0.5, 0.0]
    lower.step(), lower_schedule.step()
    assert lower.param_groups[0]["lr"] == pytest.approx(RATES["learning_rate"] / 10 * 2 / 4)


def test_an_optimizer_whose_weights_are_grouped_in_another_way_is_refused():
    tensors, groups = optimizer_parts(make_optimizer(small_model(), **RATES))
    with pytest.raises(ValueError, match="grouped in another way"):
        restore_optimizer(make_optimizer(small_model(), **RATES, layer_decay=0.5), tensors, groups)


@pytest.mark.parametrize(
    ("check", "options", "message"),
    [
        (optimizer_faults, {}, "here: 'type' is missing; one of: adamax, adamw, radam, sgd"),
        (optimizer_faults, {"type": "adam"}, "here: unknown optimizer 'adam'. Did you mean"),
        (
            optimizer_faults,
            {"type": "adamw", "beta_1": 0.9},
            "here: unknown adamw option 'beta_1'. Did you mean 'beta1'",
        ),
        (optimizer_faults, {"type": "adamw", "lr": 0.1}, "here: unknown adamw option 'lr'"),
        (optimizer_faults, {"type": "adamw", "beta1": 1.0}, "here.beta1: Input should be less than 1, got 1.0"),
        (optimizer_faults, {"type": "radam", "eps": 0.0}, "here.eps: Input should be greater than 0, got 0.0"),
        (optimizer_faults, {"type": "adamax", "eps": math.nan}, "here.eps: Input should be a finite number, got nan"),
        (
            optimizer_faults,
            {"type": "sgd", "momentum": "0.9"},
            "here.momentum: Input should be a valid number, got '0.9'",
        ),
        (
            optimizer_faults,
            {"type": "sgd", "momentum": 0.0, "nesterov": True},
            "here: nesterov needs a momentum above 0",
        ),
        (schedule_faults, {"type": "cosin"}, "here: unknown schedule 'cosin'. Did you mean 'cosine'"),
        (schedule_faults, {"type": 3}, "here: unknown schedule '3'."),
        (schedule_faults, {"type": "linear", "power": 2.0}, "here: unknown linear option 'power'"),
        (
            schedule_faults,
            {"type": "cosine", "num_cycles": 0},
            "here.num_cycles: Input should be greater than 0, got 0",
        ),
        (schedule_faults, {"type": "polynomial", "end_factor": 1.0}, "here.end_factor: Input should be less than 1"),
        (schedule_faults, {"type": "slanted_triangular", "ratio": 0.5}, "here.ratio: Input should be greater than or"),
        (schedule_faults, {"type": "robert", "cut": 0.0}, "here.cut: Input should be greater than 0, got 0.0"),
    ],
)
def test_a_fault_in_the_options_is_named_with_its_place_and_value(check, options, message):
    (fault,) = check(options, where="here")
    assert fault.startswith(message)


def test_all_faults_are_named_at_once_before_training_and_by_the_makers():
    options = {"type": "adamw", "beta1": 2.0, "eps": -1.0, "amsgrad": True}
    faults = optimizer_faults(options, where="optimizer")
    assert len(faults) == 3
    with pytest.raises(ConfigError) as error:
        make_optimizer(small_model(), **RATES, optimizer=options)
    assert str(error.value).splitlines() == faults


@pytest.mark.parametrize("check", [optimizer_faults, schedule_faults])
def test_every_name_is_good_with_its_defaults(check):
    for name in OPTIMIZERS if check is optimizer_faults else SCHEDULES:
        assert check({"type": name}, where="here") == []


def test_the_fused_optimizer_makes_the_steps_of_the_plain_one():
    draw = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in ((5, 3), (7,))]
    gradients = [[torch.randn(each.shape, generator=draw, dtype=torch.float64) for each in start] for _ in range(20)]
    ends = []
    for make in (adamw(), lambda groups, lr: torch.optim.AdamW(groups, lr=lr, foreach=False, fused=False)):
        weights = [torch.nn.Parameter(each.clone()) for each in start]
        optimizer = make([{"params": weights, "weight_decay": 0.1}], lr=0.01)
        for step in gradients:
            for weight, gradient in zip(weights, step, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
        ends.append([weight.detach() for weight in weights])
    for fused, plain, began in zip(*ends, start, strict=True):
        assert (fused - began).abs().min() > 1e-4
        torch.testing.assert_close(fused, plain, rtol=1e-12, atol=1e-15)
