"""How a stage's methods are put together, and what the trainer does with their terms."""

import math
from dataclasses import replace

import pytest
import torch
from support import toy_batch, toy_model
from toy_reference import RNG

from mtdnn.config import StageConfig, TrainConfig
from mtdnn.data.batch import Batch
from mtdnn.diagnostics import Diagnostics
from mtdnn.errors import ConfigError
from mtdnn.methods import build_methods
from mtdnn.regularizers.base import Attached
from mtdnn.regularizers.rapt import Rapt
from mtdnn.regularizers.smart import Smart
from mtdnn.train_plan import Step


def stage(**options):
    return StageConfig(name="joint", kind="joint", tasks=["nli", "sts"], **options)


@pytest.mark.parametrize("objective", ["pgd", "free_at", "freelb"])
def test_an_objective_without_a_clean_pass_refuses_regularizers_and_says_why(objective):
    chosen = stage(objective={"type": objective}, regularizers=[{"type": "smart"}])
    with pytest.raises(ConfigError, match=f"smart cannot be combined with the objective {objective}: it has no pass"):
        build_methods(chosen, where="here")


def test_r_drop_takes_bregman_and_smart():
    methods = build_methods(
        stage(objective={"type": "r_drop"}, regularizers=[{"type": "bregman"}, {"type": "smart"}]), where="here"
    )
    assert list(methods.regularizers) == ["bregman", "smart"]


def test_a_regularizer_is_switched_by_task_and_step():
    options = {"type": "smart", "tasks": ["sts"], "task_weights": {"sts": 0.5}, "after_steps": 3}
    attached = build_methods(stage(regularizers=[options]), where="here").regularizers["smart"]
    assert isinstance(attached.regularizer, Smart)
    assert [attached.factor("nli", step=9), attached.factor("sts", step=2)] == [0.0, 0.0]
    assert attached.factor("sts", step=3) == 0.5
    assert Attached(regularizer=Smart()).factor("nli", step=0) == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["stss"]}, "unknown task of this stage 'stss'"),
        ({"task_weights": {"rank": 1.0}}, "unknown task of this stage 'rank'"),
        ({"after_steps": -1}, "at least 0"),
        ({"task_weights": {"sts": -1.0}}, "at least 0"),
        ({"tasks": "sts"}, "valid list"),
    ],
)
def test_faults_of_an_attachment_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        build_methods(stage(regularizers=[{"type": "smart", **options}]), where="here")


def test_a_weight_for_a_task_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="unknown task 'rank'"):
        stage(task_weights={"rank": 2.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": {"type": "adam"}}, "unknown optimizer 'adam'"),
        ({"schedule": {"type": "cosine", "cycles": 1}}, "unknown cosine option 'cycles'"),
        ({"freeze": "layers"}, "freeze"),
        ({"layer_decay": 1.5}, "layer_decay"),
    ],
)
def test_training_options_are_checked_before_anything_is_trained(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)


def batch_of(task: str, units: int) -> Batch:
    whole = toy_batch(task)
    rows = {name: value[:units] for name, value in whole.inputs_NT.items()}
    return Batch(task=task, uids=whole.uids[:units], inputs_NT=rows, num_rows_U=whole.num_rows_U[:units])


def test_shares_of_a_step_are_weighted_by_task():
    step = Step([batch_of("nli", 1), batch_of("nli", 3), batch_of("sts", 2)], {"sts": 4.0})
    assert step.shares() == pytest.approx([1 / 8, 3 / 8, 4 / 2])


def test_diagnostics_say_in_words_that_the_papers_radius_does_nothing():
    model, batch = toy_model().train(), toy_batch("nli")
    diagnostics = Diagnostics(every=1, dtype=torch.float32)
    regularizer = Smart(**Smart.PRESETS["paper"])
    clean = model.run(batch, rng=RNG, sites=regularizer.sites)
    found = regularizer.diagnose(model, batch, clean, RNG)
    assert found["delta_inf"] == pytest.approx(1e-5)
    assert found["dropout_floor"] == 0
    for step in (0, 1):
        assert diagnostics.doubts(since=0) == []
        diagnostics.note("smart", found, step=step, task="nli", loss=1.0)
        diagnostics.commit()
    (text,) = diagnostics.doubts(since=0)
    assert text.startswith("smart does nothing measurable: its penalty is ")


def test_diagnostics_show_what_the_ascent_gains_and_how_large_the_change_is():
    model, batch = toy_model().eval(), toy_batch("sts")
    regularizer = Smart(radius=0.1, step_size=0.3, num_steps=3)
    clean = model.run(batch, sites=regularizer.sites)
    found = regularizer.diagnose(model, batch, clean, RNG)
    assert found["gain"] > 2
    assert 0.05 < found["delta_rms/x_rms"] <= 0.1
    assert found["penalty"] == pytest.approx(regularizer.penalty(model, batch, clean, RNG).item())


def test_diagnostics_say_that_dropout_alone_makes_the_penalty():
    model, batch = toy_model(num_hidden_layers=3).train(), toy_batch("nli")
    regularizer = Rapt(step_size=1e-6)
    clean = model.run(batch, rng=RNG, sites=regularizer.sites)
    diagnostics = Diagnostics(every=1, dtype=torch.float32)
    found = regularizer.diagnose(model, batch, clean, RNG)
    assert "gain" not in found
    diagnostics.note("rapt", found, step=1, task="nli", loss=1.0)
    diagnostics.commit()
    (text,) = diagnostics.doubts(since=0)
    assert "is mostly dropout" in text


@pytest.mark.parametrize(("radius", "height"), [(1e-4, 0.2), (0.3, 1.0)])
def test_diagnostics_say_when_an_ascent_in_bf16_loses_its_way(radius, height):
    model, batch = toy_model().train(), toy_batch("nli")
    regularizer = Smart(radius=radius, step_size=radius, noise_std=radius, ascent_precision="training")
    diagnostics = Diagnostics(every=1, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        clean = model.run(batch, rng=RNG, sites=regularizer.sites)
        found = regularizer.diagnose(model, batch, clean, RNG)
        wide = replace(regularizer, ascent_precision="fp32")
        assert found["of_fp32"] == pytest.approx(height, abs=0.1)
        assert "of_fp32" not in wide.diagnose(model, batch, clean, RNG)
    diagnostics.note("smart", found, step=1, task="nli", loss=1e-9)
    diagnostics.commit()
    told = [text for text in diagnostics.doubts(since=0) if "loses its way in bfloat16: it comes 0." in text]
    assert bool(told) == (height < 0.9)
    clean = model.run(batch, rng=RNG, sites=regularizer.sites)
    assert "of_fp32" not in regularizer.diagnose(model, batch, clean, RNG)


def test_diagnostics_survive_a_checkpoint():
    first, second = (Diagnostics(every=5, dtype=torch.float32) for _ in range(2))
    first.note("smart", {"penalty": 1e-9, "gain": 1.0, "delta_inf": math.inf}, step=1, task="nli", loss=1.0)
    first.commit()
    first.note("smart", {"penalty": 1.0}, step=1, task="nli", loss=1.0)
    first.discard()
    assert len(first.unsaid(first.doubts(since=0))) == 2
    second.take_up(first.state())
    assert second.means() == first.means() == {"smart": {"penalty": 1e-9, "gain": 1.0, "penalty/loss": 1e-9}}
    assert second.unsaid([*second.doubts(since=0), "smart's ascent adds nothing: the penalty is 1.01 x"]) == []
    assert second.unsaid(["bregman does nothing: why"]) == ["bregman does nothing: why"]


@pytest.mark.parametrize("every", [1, 4, 50])
def test_one_of_so_many_steps_is_sampled_and_no_task_that_takes_turns_is_left_out(every):
    diagnostics = Diagnostics(every=every, dtype=torch.float32)
    sampled = [step for step in range(40 * every) if diagnostics.due(step)]
    assert sampled.pop(0) == 0
    assert [step // every for step in sampled] == list(range(0 if every > 1 else 1, 40))
    for num_tasks in range(1, 10):
        assert {step % num_tasks for step in sampled} == set(range(num_tasks))


def test_a_batch_that_is_used_for_several_steps_is_sampled_once_where_one_of_them_is():
    diagnostics = Diagnostics(every=6, dtype=torch.float32)
    steps = [step for step in range(600) if diagnostics.due(step)]
    used = [start for start in range(0, 600, 3) if diagnostics.due(start, updates=3)]
    assert used == sorted({step - step % 3 for step in steps})
    assert not Diagnostics(every=None, dtype=torch.float32).due(0)
