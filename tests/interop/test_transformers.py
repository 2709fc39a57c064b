"""Regularizers on stock models: the same numbers as on ours, and inside the HF Trainer."""

import json
from contextlib import contextmanager

import pytest
import torch
from datasets import Dataset
from support import FAMILIES, NLI, STS, toy_batch, write_toy_data
from toy_reference import RNG
from transformers import AutoConfig, AutoModelForSequenceClassification, Trainer, TrainingArguments

from mtdnn.data.batch import make_batch, pad_rows
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split
from mtdnn.errors import ConfigError
from mtdnn.heads.base import build_head
from mtdnn.interop.transformers import RUN_AGAIN, LogitsModel, RegularizedTrainer, as_batch
from mtdnn.model import MultiTaskModel, make_config
from mtdnn.objectives.standard import Standard
from mtdnn.regularizers.base import Attached
from mtdnn.regularizers.bregman import Bregman
from mtdnn.regularizers.rapt import Rapt
from mtdnn.regularizers.smart import Smart
from mtdnn.samplers.round_robin import RoundRobin
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_tokenizer
from mtdnn.train_plan import TrainOptions
from mtdnn.trainer import Trainer as OwnTrainer

REGULARIZERS = [Smart(), Smart(site="word", num_steps=2), Smart(option="B"), Rapt(max_layer=2)]


def stock(num_labels=3, family="bert", vocab_size=20):
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, vocab_size=vocab_size, num_labels=num_labels, **FAMILIES[family])
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for weight in (w for w in model.parameters() if w.dim() > 1):
            weight.copy_(0.3 * torch.randn(weight.shape))
    return model


def ours(model, task):
    """The same weights in a multi-task model with the family's own pooling."""
    made = MultiTaskModel(make_config(model.config, [task], pool="native", max_length=16))
    made.encoder.load_state_dict(model.bert.state_dict(), strict=False)
    made.pooler.dense.load_state_dict(model.bert.pooler.dense.state_dict())
    made.head(task.name).output.load_state_dict(model.classifier.state_dict())
    return made


@pytest.mark.parametrize("regularizer", REGULARIZERS, ids=repr)
@pytest.mark.parametrize(("task", "num_labels"), [(NLI, 3), (STS, 1)], ids=["nli", "sts"])
def test_a_penalty_on_a_stock_model_is_the_one_on_ours(task, num_labels, regularizer):
    model, batch = stock(num_labels).eval(), toy_batch(task.name)
    adapted, made = LogitsModel(model), ours(model, task).eval()
    penalties = []
    for each in (adapted, made):
        clean = each.run(batch, rng=RNG, sites=regularizer.sites)
        penalties.append(regularizer.penalty(each, batch, clean, RNG))
        torch.testing.assert_close(each.loss(clean.logits, batch), made.loss(made(batch), batch))
    assert penalties[0] > 0
    torch.testing.assert_close(*penalties)


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra", "deberta-v2", "modernbert"])
def test_stock_models_of_every_family_take_smart(family):
    model, batch = LogitsModel(stock(family=family).train()), toy_batch("nli")
    smart = Smart()
    inputs = {name: batch.inputs_NT[name] for name in ("input_ids", "attention_mask")}
    batch = as_batch({**inputs, "labels": batch.targets})
    penalty = smart.penalty(model, batch, model.run(batch, rng=RNG, sites=smart.sites), RNG)
    penalty.backward()
    assert penalty > 0
    assert model.encoder.get_input_embeddings().weight.grad.abs().max() > 0


def rows(count=24):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 20, (count, 6), generator=generator)
    return Dataset.from_dict({"input_ids": ids.tolist(), "labels": (ids[:, 0] % 3).tolist()}).with_format("torch")


def losses_of(trainer):
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


RUN_AGAIN_HERE = next(name for name in RUN_AGAIN if hasattr(TrainingArguments, name))


def arguments(folder, **options):
    given = {"per_device_train_batch_size": 8, "max_steps": 3, "logging_steps": 1, "seed": 5, "save_strategy": "no"}
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True}
    return TrainingArguments(output_dir=str(folder), **{**given, **options}, **quiet)


def trainer_with(folder, regularizers, model=None, **options):
    return RegularizedTrainer(
        model or stock(), arguments(folder, **options), train_dataset=rows(), regularizers=regularizers
    )


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def test_the_trainer_adds_the_penalties_and_the_teacher_follows(tmp_path):
    plain = losses_of(trainer_with(tmp_path / "plain", {}))
    bregman = Bregman(momentum=0.5)
    trainer = trainer_with(tmp_path / "smart", {"smart": Smart(weight=5.0), "bregman": bregman})
    losses = losses_of(trainer)
    assert len(losses) == 3
    assert losses[0] > plain[0]
    assert bregman.teacher is not None
    student, teacher = trainer.passes.state_dict(), bregman.teacher.state_dict()
    apart = [(student[name] - teacher[name]).abs().max().item() for name in student]
    assert 0 < max(apart) < 0.01


def test_without_regularizers_it_is_the_stock_trainer(tmp_path):
    ours_ = losses_of(trainer_with(tmp_path / "ours", {}, without_dropout(stock())))
    theirs = losses_of(Trainer(without_dropout(stock()), arguments(tmp_path / "theirs"), train_dataset=rows()))
    assert ours_ == pytest.approx(theirs, rel=1e-5)


STEPS, SEED, SIZE, RATE = 3, 5, 8, 1e-2


def numbered_nli(folder):
    """The toy pairs with numbers for names, tokenised: 24 units, three batches."""
    write_toy_data(folder, rows=STEPS * SIZE)
    path = folder / "nli-train.jsonl"
    pairs = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**row, "uid": str(100 + n)}) + "\n" for n, row in enumerate(pairs)))
    task = load_tasks(folder)["nli"]
    return task, load_split(find_source(task, "train"), build_head(task), tiny_tokenizer(), max_length=32)


def ours_in_float64(model, task, data, regularizers):
    """Our loop over one task, and the loss of each step that it takes, penalties included."""
    trainer = OwnTrainer(
        without_dropout(ours(model, task)).double(),
        {"nli": data},
        {},
        objective=Standard(),
        regularizers={name: Attached(regularizer=each) for name, each in regularizers.items()},
        sampler=RoundRobin(),
        options=TrainOptions(
            epochs=1, batch_size=SIZE, learning_rate=RATE, warmup=0.0, precision="fp32", select="last"
        ),
        seed=SEED,
        pad_id=0,
    )
    order = [int(unit) for step in trainer.plan.epoch(0) for _, units in step for unit in units]
    next_loss, losses = trainer.next_loss, []

    def noting(*arguments):
        losses.append(next_loss(*arguments))
        return losses[-1]

    trainer.next_loss = noting
    trainer.run()
    return trainer.model, order, [loss.item() for loss in losses]


class Noting(RegularizedTrainer):
    """Keeps each step's loss; the log has it in single precision."""

    def compute_loss(self, *arguments, **options):
        loss = super().compute_loss(*arguments, **options)
        self.losses = [*getattr(self, "losses", []), loss.item()]
        return loss


def padded(rows):
    ids, types = ([row[name] for row in rows] for name in ("input_ids", "token_type_ids"))
    return {
        **pad_rows(ids, types, pad_id=0),
        "labels": torch.tensor([row["labels"] for row in rows]),
        "uid": torch.tensor([row["uid"] for row in rows]),
    }


def theirs_in_float64(model, folder, task, data, order, regularizers):
    """The HF Trainer over the same units in the same order."""
    batch = make_batch(data, order, build_head(task), pad_id=0)
    lengths = batch.mask_NT.sum(1).tolist()
    rows = [
        {
            "input_ids": batch.inputs_NT["input_ids"][row, :length].tolist(),
            "token_type_ids": batch.inputs_NT["token_type_ids"][row, :length].tolist(),
            "labels": int(batch.targets[row]),
            "uid": int(batch.uids[row]),
        }
        for row, length in enumerate(lengths)
    ]
    given = {"learning_rate": RATE, "weight_decay": 0.01, "max_grad_norm": 1.0, "seed": SEED}
    trainer = Noting(
        without_dropout(model).double(),
        arguments(folder, max_steps=STEPS, train_sampling_strategy="sequential", **given),
        train_dataset=Dataset.from_list(rows),
        data_collator=padded,
        regularizers=regularizers,
    )
    trainer.train()
    return trainer.model, trainer.losses


def test_the_hf_trainer_with_the_adapter_and_our_loop_give_the_same_losses_for_three_steps(tmp_path):
    task, data = numbered_nli(tmp_path)
    start = stock(vocab_size=len(tiny_tokenizer()))
    own, regularizers = ({"smart": Smart(weight=5.0), "bregman": Bregman(momentum=0.9)} for _ in range(2))
    mine, order, losses = ours_in_float64(start, task, data, own)
    model, others = theirs_in_float64(start, tmp_path / "hf", task, data, order, regularizers)
    assert len(losses) == STEPS
    assert others == pytest.approx(losses, rel=1e-12)
    torch.testing.assert_close(model.classifier.weight, mine.head("nli").output.weight, rtol=1e-9, atol=1e-12)
    words = [each.get_input_embeddings().weight for each in (model, mine.encoder)]
    torch.testing.assert_close(*words, rtol=1e-9, atol=1e-12)
    _, _, plain = ours_in_float64(stock(vocab_size=len(tiny_tokenizer())), task, data, {})
    assert losses[0] > 1.001 * plain[0]


def test_a_row_that_is_named_has_the_same_noise_in_every_batch():
    ids = torch.randint(3, 20, (4, 6))
    whole, part = (
        as_batch({"input_ids": ids, "uid": torch.arange(4)}),
        as_batch({"input_ids": ids[2:], "uid": torch.arange(2, 4)}),
    )
    assert whole.row_names[2:] == part.row_names == ["2/0", "3/0"]
    assert "uid" not in whole.inputs_NT


def test_accumulated_batches_are_averaged(tmp_path):
    small, large = (
        losses_of(
            trainer_with(
                tmp_path / str(size),
                {},
                without_dropout(stock()),
                per_device_train_batch_size=size,
                gradient_accumulation_steps=24 // size,
                max_steps=1,
            )
        )
        for size in (8, 24)
    )
    assert small == pytest.approx(large, rel=1e-5)


def test_in_half_precision_the_passes_that_ask_for_float32_have_it(tmp_path, monkeypatch):
    resume, seen = LogitsModel.resume, []

    def noted(self, batch, clean, **options):
        with layer_dtypes(self) as found:
            logits = resume(self, batch, clean, **options)
        seen.append((clean.autocast, options.get("dtype"), found[-1]))
        return logits

    monkeypatch.setattr(LogitsModel, "resume", noted)
    trainer = trainer_with(tmp_path, {"smart": Smart(), "bregman": Bregman()}, bf16=True, max_steps=1)
    forward = trainer.model.forward
    trainer.train()
    assert set(seen) == {(True, torch.float32, torch.float32), (True, None, torch.bfloat16)}
    trainer.evaluate(rows())
    trainer.train()
    assert set(seen) == {(True, torch.float32, torch.float32), (True, None, torch.bfloat16)}
    assert trainer.passes.model.forward != forward  # the Trainer's own, outside our computation
    seen.clear()
    trainer_with(tmp_path, {"smart": Smart()}, trainer.model, bf16=True, max_steps=1).train()
    assert set(seen) == {(True, torch.float32, torch.float32), (True, None, torch.bfloat16)}


@contextmanager
def layer_dtypes(model):
    """What the last layer puts out while entered."""
    found = []
    layer = model.encoder.encoder.layer[-1].intermediate.dense
    handle = layer.register_forward_hook(lambda _module, _inputs, output: found.append(output.dtype))
    try:
        yield found
    finally:
        handle.remove()


def test_a_run_of_the_trainer_goes_on_with_the_teacher_that_it_had(tmp_path, caplog):
    def trained(folder, resume=None, **options):
        bregman = Bregman(momentum=0.9)
        trainer = trainer_with(folder, {"bregman": bregman}, learning_rate=1e-2, max_steps=4, **options)
        trainer.train(resume_from_checkpoint=resume)
        return [*trainer.model.state_dict().values(), *bregman.teacher.state_dict().values()]

    whole = trained(tmp_path / "a", save_strategy="steps", save_steps=2)
    (tmp_path / "a/checkpoint-4").rename(tmp_path / "later")
    half = tmp_path / "a/checkpoint-2"
    for folder, resume in ((tmp_path / "b", str(half)), (tmp_path / "c", half), (tmp_path / "a", True)):
        assert all(torch.equal(a, b) for a, b in zip(trained(folder, resume), whole, strict=True))
    assert "begins anew" not in caplog.text
    assert "bregman's teacher holds the model at its start: after all 4 steps" in caplog.text
    (tmp_path / "a/checkpoint-2/regularizer-bregman.safetensors").unlink()
    assert not all(torch.equal(a, b) for a, b in zip(trained(tmp_path / "a", True), whole, strict=True))
    assert "'bregman' begins anew, from the weights of this checkpoint" in caplog.text


def test_layers_that_run_again_in_the_trainer_have_their_first_masks(tmp_path):
    name = RUN_AGAIN_HERE
    plain, again = (trainer_with(tmp_path, {"smart": Smart()}, **{name: each}) for each in (False, True))
    given = arguments(tmp_path, **{name: True})
    for _ in range(2):
        assert RegularizedTrainer(stock(), given, regularizers={}).passes.activation_checkpointing
    assert getattr(given, name)
    assert losses_of(plain) == losses_of(again)
    model = stock().train()
    getattr(model, f"{name}_enable")()
    inputs = {"input_ids": torch.ones(2, 3, dtype=torch.long), "labels": torch.tensor([0, 1])}
    with pytest.raises(ConfigError, match="activation_checkpointing = True"):
        LogitsModel(model).run(as_batch(inputs), rng=RNG)
    LogitsModel(model.eval()).run(as_batch(inputs), rng=RNG)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"label_smoothing_factor": 0.1}, {}, "no label_smoothing_factor"),
        ({}, {"compute_loss_func": len}, "no label_smoothing_factor, compute_loss_func"),
        ({f"{RUN_AGAIN_HERE}_kwargs": {"every_n_layers": 2}}, {}, "no every_n_layers"),
    ],
)
def test_another_loss_is_refused_instead_of_ignored(tmp_path, options, given, message):
    with pytest.raises(ConfigError, match=message):
        RegularizedTrainer(stock(), arguments(tmp_path, **options), regularizers={}, **given)


def test_several_gpus_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(ConfigError, match="uses one GPU, here there are 2"):
        RegularizedTrainer(stock(), arguments(tmp_path), regularizers={})


def test_a_loss_without_labels_is_refused():
    model = LogitsModel(stock())
    batch = as_batch({"input_ids": torch.ones(2, 3, dtype=torch.long)})
    with pytest.raises(ConfigError, match="labels"):
        model.loss(model(batch), batch)
