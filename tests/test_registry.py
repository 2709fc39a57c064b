"""Names in YAML -> classes: every fault at once."""

import json

import pytest

from mtdnn.errors import ConfigError
from mtdnn.objectives.base import OBJECTIVES
from mtdnn.optim import OPTIMIZERS, SCHEDULES, full_optimization
from mtdnn.registry import build, full_options, options_of
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.smart import Smart
from mtdnn.samplers.base import SAMPLERS


def made(**options):
    return build(REGULARIZERS, options, where="joint.yaml: regularizers[0]")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": 1.0}, "'type' is missing; one of: bregman, distillation, r3f, rapt, smart, vat"),
        ({"type": "smrt"}, r"unknown regularizer 'smrt'. Did you mean 'smart'\?"),
        ({"type": "smart", "raduis": 1.0}, r"unknown smart option 'raduis'. Did you mean 'radius'\?"),
        ({"type": "smart", "preset": "papr"}, r"unknown smart preset 'papr'. Did you mean 'paper'\?"),
        ({"type": "smart", "radius": "1e-5"}, r"regularizers\[0\]\.radius: .*got '1e-5'"),
        ({"type": "smart", "radius": -1.0}, "radius must be above 0, got -1"),
        ({"type": "smart", "norm": 3}, r"\.norm: .*got 3"),
        ({"type": "bregman", "momentum": 1.5}, r"momentum must be auto, mean_teacher or in \[0, 1\), got 1.5"),
        (
            {"type": "bregman", "momentum": "slow"},
            "momentum: Input should be a valid number or 'auto' or 'mean_teacher', got 'slow'",
        ),
    ],
)
def test_a_wrong_option_is_named_with_its_place(options, message):
    with pytest.raises(ConfigError, match=message):
        made(**options)


def test_all_wrong_options_are_named_at_once():
    with pytest.raises(ConfigError, match=r"(?s)raduis.*wieght"):
        made(type="smart", raduis=1.0, wieght=1.0)


def test_an_option_lies_over_its_preset():
    smart = made(type="smart", preset="paper", num_steps=3)
    assert isinstance(smart, Smart)
    assert (smart.radius, smart.step_size, smart.noise_std, smart.num_steps) == (1e-5, 1e-3, 1e-5, 3)


def test_a_name_cannot_be_registered_twice():
    with pytest.raises(ValueError, match="'smart' is registered twice"):
        REGULARIZERS.register("smart")(Smart)


EVERY = [
    pytest.param(registry, name, preset, id=f"{name}, {preset}")
    for registry in (OBJECTIVES, REGULARIZERS, SAMPLERS)
    for name in registry.names()
    for preset in (None, *getattr(registry.get(name, where=""), "PRESETS", {}))
]


@pytest.mark.parametrize(("registry", "name", "preset"), EVERY)
def test_the_full_options_of_a_component_build_it_again_and_are_json(registry, name, preset):
    given = {"teachers": ["somewhere"]} if name == "distillation" else {}
    options = {"type": name, **given, **({"preset": preset} if preset else {})}
    full = full_options(registry, options, where="here")
    assert vars(build(registry, {"type": name, **full}, where="here")) == vars(build(registry, options, where="here"))
    assert set(full) == set(options_of(registry.get(name, where="")))
    assert json.loads(json.dumps(full)) == full


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_full_options_of_an_optimizer_and_a_schedule_are_what_is_said_and_the_defaults(name, schedule):
    full = full_optimization({"optimizer": {"type": name}, "schedule": {"type": schedule}})
    assert {kind: options["type"] for kind, options in full.items()} == {"optimizer": name, "schedule": schedule}
    assert set(full["optimizer"]) == {"type", *options_of(OPTIMIZERS[name])}
    assert set(full["schedule"]) == {"type", *options_of(SCHEDULES[schedule])}
    assert json.loads(json.dumps(full)) == full


def test_what_is_said_lies_over_a_preset_and_that_over_the_defaults():
    full = full_options(REGULARIZERS, {"type": "smart", "preset": "paper", "radius": 0.5}, where="here")
    assert (full["radius"], full["step_size"], full["num_steps"]) == (0.5, 1e-3, 1)
    assert full_optimization({"optimizer": {"type": "adamw", "eps": 1e-6}, "schedule": {"type": "linear"}}) == {
        "optimizer": {"type": "adamw", "beta1": 0.9, "beta2": 0.999, "eps": 1e-6},
        "schedule": {"type": "linear"},
    }
