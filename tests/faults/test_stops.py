"""Stopped anywhere, by anything: the run ends as if nothing had been."""

import random
import re
import signal

import pytest
import torch
from faults.work import Process, command_line, saved_step, toy_folder, until
from support import pairwise
from toy_training import toy_data, trainer_for

from mtdnn.errors import NonFiniteError
from mtdnn.objectives.freelb import FreeLb
from mtdnn.regularizers.base import Attached
from mtdnn.regularizers.bregman import Bregman
from mtdnn.regularizers.rapt import Rapt
from mtdnn.regularizers.smart import Smart
from mtdnn.tracking import Events

METHODS = {
    "standard": {"regularizers": {}},
    "smart": {"regularizers": {"smart": Attached(regularizer=Smart())}},
    "bregman": {"regularizers": {"bregman": Attached(regularizer=Bregman(momentum=0.9))}},
    "rapt": {"regularizers": {"rapt": Attached(regularizer=Rapt(max_layer=2))}},
    "freelb": {"regularizers": {}, "objective": FreeLb()},
}
OPTIONS = {
    "method": tuple(METHODS),
    "accumulate": (1, 2),
    "num_workers": (0, 2),
    "buckets": (True, False),
    "precision": ("fp32", "bf16"),
}


INF = float("inf")


class CutError(Exception):
    """The run was stopped here."""


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_data(tmp_path_factory.mktemp("toy"), rows=16)


def outcome(trainer):
    """Everything that a run leaves, timing aside."""
    progress = {name: value for name, value in vars(trainer.progress).items() if name not in ("seconds", "history")}
    history = [{name: value for name, value in each.items() if name != "seconds"} for each in trainer.progress.history]
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    return {**progress, "history": history, "samples": trainer.diagnostics.samples}, weights


def stopped_at(step):
    def stop(now):
        if now == step:
            raise CutError

    return stop


@pytest.mark.fault("R2")
@pytest.mark.parametrize("options", pairwise(OPTIONS), ids=lambda options: "-".join(map(str, options.values())))
def test_a_run_that_is_stopped_at_any_step_ends_the_same(toy, tmp_path, options, times, tried):
    method, *_ = options.values()
    others = {name: value for name, value in options.items() if name != "method"}
    given = {**METHODS[method], **others, "batch_size": 16, "save_every": 1, "diagnose_every": 3, "patience": 1}
    whole = trainer_for(toy, tmp_path / "whole", **given)
    whole.run()
    facts, weights = outcome(whole)
    every = range(1, whole.progress.step)
    cuts = random.Random(str(options)).sample(every, min(times(3, full=len(every)), len(every)))
    for cut in cuts:
        folder = tmp_path / f"cut-{cut}"
        with pytest.raises(CutError):
            trainer_for(toy, folder, on_step=stopped_at(cut + 1), **given).run()
        again = trainer_for(toy, folder, **given)
        again.run()
        other_facts, other_weights = outcome(again)
        assert other_facts == facts
        assert all(torch.equal(value, other_weights[name]) for name, value in weights.items())
    tried(len(cuts), f"{method}: bit-identical")


@pytest.mark.fault("R2")
def test_events_stand_once_a_step_wherever_the_run_is_stopped(toy, tmp_path, tried):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def scalars(folder):
        shown = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        return {tag: [(each.step, each.value) for each in shown.Scalars(tag)] for tag in shown.Tags()["scalars"]}

    def cut_in_validation(trainer):
        tell = trainer.tell_validation

        def told(record):
            tell(record)
            raise CutError

        trainer.tell_validation = told

    options = {"save_every": 1, "diagnose_every": 2, "epochs": 2}
    trainer_for(toy, events=Events(tmp_path / "whole"), **options).run()
    cut = trainer_for(toy, tmp_path / "saved", events=Events(tmp_path / "cut"), **options)
    cut_in_validation(cut)
    with pytest.raises(CutError):
        cut.run()
    trainer_for(toy, tmp_path / "saved", events=Events(tmp_path / "cut"), **options).run()
    assert scalars(tmp_path / "cut") == scalars(tmp_path / "whole")
    tried(1, "events once, cut between validation and its checkpoint")


@pytest.mark.fault("R5")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(tmp_path, number, tried):
    folder, out, output = toy_folder(tmp_path / "toy", rows=200), tmp_path / "out", tmp_path / "output"
    arguments = ("run", folder / "toy.yaml", "--task-defs", folder / "tasks", "--out", out)
    process = Process(command_line, *arguments, "--set", "train.save_every=1000", output=output)
    joint = out / "smart/joint/joint/full/1"
    until(lambda: any((joint / "events").glob("*")))
    process.send(number)
    assert process.wait(30) == 128 + number
    told = " ".join(output.read_text().split())
    ((step, steps),) = re.findall(r"stopped at step (\d+) of (\d+); the same command goes on from there", told)
    assert int(step) < int(steps) / 2  # the first of two epochs, whose end would save too
    assert saved_step(joint / "checkpoint") == int(step)
    tried(1, f"{number.name}: exit {128 + number}, step {step} saved")


@pytest.mark.fault("R8")
@pytest.mark.parametrize("value", [float("nan"), INF])
def test_a_loss_that_is_not_finite_stops_there_and_the_state_before_is_kept(toy, tmp_path, value, tried):
    def poison(now):
        if now == 3:
            with torch.no_grad():
                trainer.model.encoder.embeddings.word_embeddings.weight[5:].fill_(value)

    trainer = trainer_for(toy, tmp_path, regularizers={}, on_step=poison, save_every=100)
    with pytest.raises(NonFiniteError, match=r"step 4: .* is .*: task '\w+', rows train\d+") as caught:
        trainer.run()
    assert caught.value.exit_code == 7
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]
    tried(1, f"{value} in the loss of step 4: stopped, step 3 is kept")


@pytest.mark.fault("R8")
def test_an_infinite_gradient_of_a_finite_loss_stops_too(toy, tmp_path, tried):
    trainer = trainer_for(toy, tmp_path, tasks=["sts"], regularizers={})
    next(trainer.model.parameters()).register_hook(lambda gradient: gradient * INF)
    with pytest.raises(NonFiniteError, match=r"step 1: the gradient's norm is (nan|inf): task 'sts', rows train\d+"):
        trainer.run()
    tried(1, "infinity in a gradient: stopped")


@pytest.mark.fault("R8")
def test_steps_that_are_not_finite_are_skipped_counted_and_bounded(toy, tmp_path, tried):
    def trainer_with(max_skipped):
        trainer = trainer_for(toy, tasks=["nli"], regularizers={}, on_nan="skip", max_skipped=max_skipped, epochs=3)
        forward = trainer.model.heads["task_nli"].forward

        def faulty(pooled_ND, batch):
            logits = forward(pooled_ND, batch)
            return logits * float("nan") if trainer.progress.step in (0, 3) and trainer.model.training else logits

        trainer.model.heads["task_nli"].forward = faulty
        return trainer

    trainer = trainer_with(2)
    progress = trainer.run()
    assert [each["step"] for each in progress.skipped] == [1, 4]
    assert progress.step == trainer.num_steps
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())
    with pytest.raises(NonFiniteError, match="step 4"):
        trainer_with(1).run()
    tried(2, "skipped twice, then stopped at the bound")
