"""The loop: what it optimises, how it resumes, when it stops."""

import math
import os
import signal
import sys
from dataclasses import replace

import cold_reader
import pytest
import torch
from toy_training import NAMES, toy_data, trainer_for

from mtdnn.checkpoint import list_checkpoints, load_checkpoint
from mtdnn.distributed import Ranks
from mtdnn.errors import CheckpointError, NonFiniteError
from mtdnn.interruptions import Interrupted, interruptions
from mtdnn.objectives.base import OBJECTIVES
from mtdnn.objectives.free_at import FreeAt
from mtdnn.objectives.freelb import FreeLb
from mtdnn.objectives.pgd import Pgd
from mtdnn.objectives.r_drop import RDrop
from mtdnn.optim import autocast_dtype, is_exempt, make_schedule
from mtdnn.regularizers.base import Attached
from mtdnn.regularizers.bregman import Bregman
from mtdnn.regularizers.smart import Smart
from mtdnn.samplers.round_robin import RoundRobin
from mtdnn.tracking import Events
from mtdnn.train_plan import Step


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("toy"))


def test_training_lowers_every_tasks_loss(toy):
    trainer = trainer_for(toy, regularizers={}, epochs=6, learning_rate=3e-3, select="last")
    history = trainer.run().history
    for name in NAMES:
        assert history[-1]["losses"][name] < history[0]["losses"][name]


def test_the_same_seed_gives_the_same_weights(toy):
    first, second = (trainer_for(toy, epochs=1) for _ in range(2))
    first.run(), second.run()
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True))


class CutError(Exception):
    """Stands for the end of the process."""


def cut_at(last):
    """What ends a run after a step."""

    def stop(step):
        if step == last:
            raise CutError

    return stop


def test_a_run_that_was_cut_off_ends_with_the_same_weights_bit_for_bit(toy, tmp_path):
    """At one step and with one set of options; ``tests/faults/test_stops.py`` has all."""
    cut, options = 7, {"accumulate": 2, "save_every": 3}
    whole = trainer_for(toy, tmp_path / "whole", **options)
    whole.run()

    with pytest.raises(CutError):
        trainer_for(toy, tmp_path / "cut", on_step=cut_at(cut), **options).run()
    again = trainer_for(toy, tmp_path / "cut", **options)
    again.run()
    assert again.progress.step == whole.progress.step
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    teachers = (each.regularizers["bregman"].regularizer.teacher.state_dict() for each in (again, whole))
    assert all(torch.equal(a, b) for a, b in zip(*(t.values() for t in teachers), strict=True))
    for a, b in zip(again.progress.history, whole.progress.history, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def scalars_in(folder):
    """(step, value) of every scalar that TensorBoard shows, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder)).Reload()
    return {tag: [(each.step, each.value) for each in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}


def test_tensorboard_shows_losses_diagnostics_and_validation_once_a_step_after_a_cut_too(toy, tmp_path):
    options = {"save_every": 5, "diagnose_every": 4}
    whole = trainer_for(toy, events=Events(tmp_path / "whole"), **options)
    history = whole.run().history

    with pytest.raises(CutError):
        trainer_for(toy, tmp_path / "saved", events=Events(tmp_path / "cut"), on_step=cut_at(24), **options).run()
    trainer_for(toy, tmp_path / "saved", events=Events(tmp_path / "cut"), **options).run()
    shown = scalars_in(tmp_path / "whole")
    assert scalars_in(tmp_path / "cut") == shown
    assert {"train/nli", "train/smart_penalty", "train/learning_rate", "smart/gain", "smart/delta_inf"} <= set(shown)
    assert [step for step, _ in shown["train/learning_rate"]] == list(range(10, whole.num_steps + 1, 10))
    assert [step for step, _ in shown["smart/gain"]][:3] == [1, 3, 5]
    for (step, value), record in zip(shown["validation/nli/accuracy"], history, strict=True):
        assert (step, value) == (record["step"], pytest.approx(record["validation"]["nli"]["accuracy"]))


def test_without_tensorboard_a_run_is_the_same_and_writes_no_events(toy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trainer_for(toy, regularizers={}, epochs=1, events=Events(tmp_path / "events")).run()
    assert not (tmp_path / "events").exists()


def test_shares_make_the_mean_over_tasks_of_the_mean_over_their_units(toy):
    trainer = trainer_for(toy, accumulate=4)
    step = next(trainer.steps())
    by_task = {}
    for batch, share in zip(step.batches, step.shares(), strict=True):
        by_task[batch.task] = by_task.get(batch.task, 0) + share
    assert by_task == pytest.approx(dict.fromkeys(NAMES, 1 / 3))
    assert isinstance(step, Step)


def test_accumulated_batches_give_the_gradient_of_one_large_batch(toy):
    gradients = []
    for cuts in ([range(8)], [range(3), range(3, 8)]):
        trainer = trainer_for(toy, tasks=["nli"], regularizers={}, clip_norm=None)
        trainer.model.eval()
        trainer.update = lambda step: None
        trainer.run_step(next(trainer.made([[("nli", list(units)) for units in cuts]])))
        gradients.append(torch.cat([w.grad.flatten() for w in trainer.model.parameters() if w.grad is not None]))
    torch.testing.assert_close(*gradients)


def test_free_at_updates_after_every_replay_and_takes_fewer_epochs(toy):
    objective = FreeAt(num_steps=2)
    trainer = trainer_for(toy, tasks=["nli"], regularizers={}, objective=objective, epochs=4, select="last")
    assert (trainer.num_epochs, trainer.num_steps) == (2, 2 * 6 * 2)
    trainer.run()
    assert trainer.progress.step == 24
    assert trainer.schedule.last_epoch == 24


@pytest.mark.parametrize("cut", [4, 14])
@pytest.mark.parametrize("objective", [FreeAt(num_steps=2), FreeLb(num_steps=2), RDrop(), Pgd(num_steps=1)], ids=repr)
def test_every_objective_resumes_bit_for_bit(toy, tmp_path, objective, cut):
    options = {"objective": objective, "regularizers": {}, "epochs": 2, "save_every": 3, "tasks": ["nli", "sts"]}
    whole = trainer_for(toy, tmp_path / "whole", **options)
    whole.run()

    def stop(step):
        if step >= cut:
            raise CutError

    with pytest.raises(CutError):
        trainer_for(toy, tmp_path / "cut", on_step=stop, **options).run()
    again = trainer_for(toy, tmp_path / "cut", **options)
    again.run()
    ours, theirs = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_step_can_keep_to_one_task(toy):
    trainer = trainer_for(toy, accumulate=3, accumulation="same_task")
    steps = list(trainer.steps())
    assert all(len({batch.task for batch in step.batches}) == 1 for step in steps)
    assert [step.batches[0].task for step in steps[:3]] == NAMES
    seen = [uid for step in steps for batch in step.batches if batch.task == "rank" for uid in batch.uids]
    assert len(seen) == len(set(seen)) == 48


def test_the_teacher_is_validated_and_kept_where_the_stage_says_so(toy):
    trainer = trainer_for(toy, tasks=["nli"], epochs=1, evaluate="teacher", select="last")
    trainer.run()
    teacher = trainer.regularizers["bregman"].regularizer.teacher.state_dict()
    ours = trainer.model.state_dict()
    assert all(torch.equal(ours[name], teacher[name]) for name in teacher)
    student = trainer_for(toy, tasks=["nli"], epochs=1, select="last")
    student.run()
    assert not torch.equal(student.model.head("nli").output.weight, trainer.model.head("nli").output.weight)


def test_a_frozen_encoder_stays_as_it_was(toy):
    trainer = trainer_for(toy, tasks=["nli"], epochs=1, freeze="encoder", select="last")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run()
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("encoder."))
    assert not torch.equal(after["heads.task_nli.output.weight"], before["heads.task_nli.output.weight"])


def test_regularizers_begin_late_and_stay_with_their_tasks(toy):
    late = {"smart": Attached(regularizer=Smart(), tasks=["sts"], after_steps=6)}
    trainer = trainer_for(toy, regularizers=late, epochs=1, select="last")
    counts = []
    penalties = trainer.penalties
    trainer.penalties = lambda batch, *rest: counts.append((batch.task, len(f := list(penalties(batch, *rest))))) or f
    trainer.run()
    assert {task for task, count in counts[:6] if count} == set()
    assert {task for task, count in counts[6:] if count} == {"sts"}


def test_what_a_regularizer_doubts_is_told_once_and_kept_with_what_the_samples_say(toy, tmp_path, caplog):
    def started():
        regularizers = {"bregman": Attached(regularizer=Bregman(momentum=0.999))}
        return trainer_for(toy, tmp_path, regularizers=regularizers)

    trainer = started()
    trainer.run()
    (text,) = trainer.regularizers["bregman"].regularizer.doubts()
    assert trainer.diagnostics.warned == [text] and caplog.messages.count(text) == 1
    again = started()
    again.run()
    assert again.diagnostics.warned == [text] and caplog.messages.count(text) == 1


def test_samples_of_the_diagnostics_stand_in_the_history_and_the_progress_line(toy, monkeypatch):
    shown = []
    monkeypatch.setattr("mtdnn.trainer.tqdm.set_postfix_str", lambda _bar, text, **_options: shown.append(text))
    trainer = trainer_for(toy, tasks=["nli"], epochs=1, diagnose_every=2)
    history = trainer.run().history
    assert {"gain", "delta_inf", "penalty/loss", "dropout_floor"} <= set(history[0]["diagnostics"]["smart"])
    assert [sample["step"] for sample in trainer.diagnostics.samples] == [0, 1, 2, 5]
    assert all("smart gain=" in text for text in shown)


@pytest.mark.parametrize("objective", [FreeLb(num_steps=2), Pgd(num_steps=2), FreeAt(num_steps=2)])
def test_what_an_objective_is_asked_of_its_perturbation_changes_nothing(toy, objective):
    asked, silent = (
        trainer_for(toy, tasks=["nli"], epochs=2, regularizers={}, objective=objective, diagnose_every=every)
        for every in (2, None)
    )
    history = asked.run().history
    name = OBJECTIVES.name_of(type(objective))
    assert {"delta_inf", "delta_rms/x_rms", "penalty/loss"} <= set(history[0]["diagnostics"][name])
    assert silent.run().history[0]["losses"] == history[0]["losses"]
    for one, other in zip(asked.model.parameters(), silent.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_loss_that_is_not_finite_stops_the_run_at_once_and_names_the_rows(toy):
    trainer = trainer_for(toy, tasks=["sts"])
    with torch.no_grad():
        trainer.model.head("sts").output.weight.fill_(math.inf)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(NonFiniteError, match=r"step 1: sts is (nan|inf).*: task 'sts', rows train\d+"):
        trainer.run()
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_a_penalty_that_is_not_finite_where_diagnostics_are_due_leaves_none_of_them(toy, tmp_path, on_nan, monkeypatch):
    trainer = trainer_for(toy, tmp_path, tasks=["sts"], epochs=1, on_nan=on_nan, diagnose_every=1, select="last")
    penalty = Smart.penalty
    monkeypatch.setattr(
        Smart, "penalty", lambda *given: penalty(*given) * (math.nan if trainer.progress.step == 2 else 1)
    )
    if on_nan == "stop":
        with pytest.raises(NonFiniteError, match="step 3: smart penalty is nan"):
            trainer.run()
        trainer = trainer_for(toy, tmp_path, tasks=["sts"], epochs=1, select="last")
        trainer.begin(), trainer.resume()
        assert trainer.progress.step == 2
    else:
        trainer.run()
        assert [each["step"] for each in trainer.progress.skipped] == [3]
    assert 2 not in {sample["step"] for sample in trainer.diagnostics.samples}
    assert {0, 1} <= {sample["step"] for sample in trainer.diagnostics.samples}


def test_rows_that_are_not_finite_in_another_process_are_named(toy):
    class Second(Ranks):
        """The other process of two, as the second one sees it."""

        def gather(self, items):
            return [("sts is nan", "task 'sts', rows train7"), *items]

    trainer = trainer_for(toy, tasks=["sts"])
    trainer.ranks = Second()
    with pytest.raises(NonFiniteError, match=r"step 1: sts is nan: task 'sts', rows train7\. Earlier"):
        trainer.check_finite(torch.tensor(math.nan), next(trainer.steps()))


def test_a_run_goes_on_with_the_learning_rate_and_the_decay_that_are_asked_for_now(toy, tmp_path):
    options = {"tasks": ["nli"], "epochs": 1, "save_every": 2, "select": "last", "schedule": {"type": "constant"}}
    with pytest.raises(CutError):
        trainer_for(toy, tmp_path, on_step=cut_at(3), warmup=0.0, **options).run()
    again = trainer_for(toy, tmp_path, warmup=0.0, **{**options, "learning_rate": 1e-5, "weight_decay": 0.5})
    again.begin(), again.resume()
    assert again.progress.step == 2
    assert again.schedule.get_last_lr() == [1e-5, 1e-5]
    assert [(group["lr"], group["weight_decay"]) for group in again.optimizer.param_groups] == [(1e-5, 0.5), (1e-5, 0)]


@pytest.mark.parametrize(
    "other",
    [{"freeze": "layer:1"}, {"layer_decay": 0.5}, {"tasks": ["nli", "sts"]}, {"optimizer": {"type": "radam"}}],
)
def test_a_checkpoint_of_another_training_is_refused_with_the_remedy(toy, tmp_path, other):
    trainer_for(toy, tmp_path, tasks=["nli"], epochs=1, select="last", save_every=2).run()
    with pytest.raises(CheckpointError, match=r"step 6 cannot be gone on from .* delete that folder to begin anew"):
        trainer_for(toy, tmp_path, **{"tasks": ["nli"], "epochs": 2, "select": "last", **other}).run()


def test_a_run_keeps_its_precision_on_other_hardware_unless_one_is_asked_for(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("mtdnn.optim.has_fast_bf16", lambda device: True)
    options = {"tasks": ["nli"], "epochs": 1, "select": "last", "regularizers": {}, "save_every": 2}
    options["eval_precision"] = "auto"
    assert trainer_for(toy, tmp_path, **options).precision == "bf16"
    trainer_for(toy, tmp_path, **options).run()
    monkeypatch.setattr("mtdnn.optim.has_fast_bf16", lambda device: False)
    found = {}
    for precision in ("auto", "fp32"):
        trainer = trainer_for(toy, tmp_path, precision=precision, **options)
        assert (trainer.precision, trainer.eval_precision) == ("fp32", "fp32")
        trainer.resume()
        found[precision] = (trainer.precision, trainer.dtype, trainer.diagnostics.dtype, trainer.eval_precision)
    assert found == {
        "auto": ("bf16", torch.bfloat16, torch.bfloat16, "bf16"),
        "fp32": ("fp32", torch.float32, torch.float32, "bf16"),
    }


@pytest.mark.parametrize("while_put", ["teacher", "student"])
def test_a_signal_while_the_teacher_is_judged_saves_the_student(toy, tmp_path, monkeypatch, while_put):
    monkeypatch.setattr(interruptions, "received", None)
    trainer = trainer_for(toy, tmp_path, tasks=["nli"], epochs=2, evaluate="teacher", save_every=None)
    put, students = trainer.model.load_state_dict, []

    def put_and_signal(weights):
        students.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
        if len(students) == ["teacher", "student"].index(while_put) + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return put(weights)

    trainer.model.load_state_dict = put_and_signal
    with interruptions.caught(), pytest.raises(Interrupted):
        trainer.run()
    step, folder = list_checkpoints(tmp_path)[-1]
    assert step == 6
    saved = load_checkpoint(folder).parts["model"]
    assert all(torch.equal(saved[name], value) for name, value in students[0].items())


def test_without_a_folder_the_best_weights_are_taken_too(toy, tmp_path, monkeypatch):
    scores = iter([1.0, 2.0, 0.0] * 2)
    monkeypatch.setattr("mtdnn.trainer.first_metrics", lambda found: next(scores))
    kept, ours = (trainer_for(toy, folder, tasks=["nli"], epochs=3) for folder in (tmp_path, None))
    for each in (kept, ours):
        assert each.run().best_epoch == 2
    theirs = ours.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in kept.model.state_dict().items())


def test_patience_ends_the_run_and_the_best_weights_are_taken(toy, tmp_path):
    trainer = trainer_for(toy, tmp_path, regularizers={}, epochs=8, patience=1, learning_rate=1e-9)
    progress = trainer.run()
    assert progress.epoch < 8
    best = [each["validation"] for each in progress.history if each["epoch"] == progress.best_epoch]
    scores = {name: each.metrics for name, each in trainer.validate().items()}
    assert best == [scores]


def test_a_sampler_is_told_of_the_epochs_that_there_will_be(toy):
    class Told(RoundRobin):
        def order(self, num_batches, *, num_epochs, epoch, **rest):
            epochs.append((epoch, num_epochs))
            return super().order(num_batches, num_epochs=num_epochs, epoch=epoch, **rest)

    for objective, options, expected in ((None, {"min_updates": 20}, 4), (FreeAt(num_steps=2), {"epochs": 4}, 2)):
        trainer = trainer_for(toy, tasks=["nli"], objective=objective, **{"epochs": 1, **options})
        epochs, plan = [], replace(trainer.plan, sampler=Told())
        for epoch in range(trainer.num_epochs):
            plan.epoch(epoch)
        assert {(epoch, expected) for epoch in range(expected)} <= set(epochs)
        assert {count for epoch, count in epochs if epoch} == {expected}


def test_min_updates_raise_the_number_of_epochs(toy):
    trainer = trainer_for(toy, tasks=["nli"], epochs=1, min_updates=20)
    assert trainer.num_epochs == 4  # 48 rows in batches of 8 are 6 updates an epoch
    assert trainer.num_steps == 24


def test_an_epoch_covers_every_unit_of_the_largest_task_exactly_once(toy):
    plan = trainer_for(toy).plan
    seen = {name: [] for name in NAMES}
    for ((task, units),) in plan.epoch(0):
        seen[task] += units.tolist()
    largest = max(NAMES, key=lambda name: plan.data[name].num_rows.sum())
    assert sorted(seen[largest]) == list(range(len(plan.data[largest])))
    for name in NAMES:
        assert set(seen[name]) == set(range(len(plan.data[name])))


def test_epochs_are_reshuffled(toy):
    plan = trainer_for(toy).plan
    first, second = ([units.tolist() for ((_, units),) in plan.epoch(epoch)] for epoch in (0, 1))
    assert first != second


def test_the_schedule_rises_over_the_warm_up_and_falls_to_zero():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, rates = make_schedule(optimizer, num_steps=10, warmup=0.2), []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:3] == [0.0, 0.5, 1.0]
    assert rates[-1] == pytest.approx(0.125)
    assert schedule.get_last_lr()[0] == 0.0


@pytest.mark.parametrize(
    ("name", "exempt"),
    [("a.LayerNorm.weight", True), ("norm.weight", True), ("a.dense.bias", True), ("a.dense.weight", False)],
)
def test_biases_and_layer_norms_do_not_decay(name, exempt):
    assert is_exempt(name) is exempt


def test_precision_auto_looks_at_the_hardware(monkeypatch):
    for fast in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda fast=fast: fast, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
        assert autocast_dtype("auto", torch.device("cpu")) == (torch.bfloat16 if fast else None)
    assert autocast_dtype("auto", torch.device("meta")) is None
    assert autocast_dtype("bf16", torch.device("cpu")) == torch.bfloat16
    assert autocast_dtype("fp32", torch.device("cuda")) is None


def test_a_reader_of_the_format_page_alone_finds_the_weights_and_the_optimizer_s_state(toy, tmp_path):
    trainer = trainer_for(toy, tmp_path, tasks=["nli"], epochs=1, save_every=5)
    trainer.run()
    step, folder = list_checkpoints(tmp_path)[0]
    state, parts = cold_reader.read(folder)
    assert (state["step"], step) == (6, 6)
    weights = load_checkpoint(folder).parts["model"]
    assert {name: tuple(each.shape) for name, each in parts["model"].items()} == {
        name: tuple(each.shape) for name, each in trainer.model.state_dict().items()
    }
    assert all((parts["model"][name] == each.numpy()).all() for name, each in weights.items())
    numbers = [number for group in state["groups"] for number in group["params"]]
    stated = {int(key.partition(".")[0]) for key in parts["optimizer"]}
    assert stated < set(numbers)  # the other tasks' heads have no gradient, and so no state
    assert {f"{number}.exp_avg" for number in stated} <= set(parts["optimizer"])
    assert set(parts) == {"model", "optimizer", "random", "regularizer-bregman"}
    damage = folder / "state.json"
    damage.write_text(damage.read_text().replace("6", "7", 1))
    with pytest.raises(ValueError, match=r"state\.json is damaged"):
        cold_reader.read(folder)
