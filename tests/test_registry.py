"""Names in YAML -> classes: every fault at once."""

import pytest

from mtdnn.errors import ConfigError
from mtdnn.registry import build
from mtdnn.regularizers.base import REGULARIZERS
from mtdnn.regularizers.smart import Smart


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
