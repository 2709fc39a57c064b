"""Regularizers on stock models: the same numbers as on ours, and inside the HF Trainer."""

import pytest
import torch
from datasets import Dataset
from support import FAMILIES, NLI, STS, toy_batch
from toy_reference import RNG
from transformers import AutoConfig, AutoModelForSequenceClassification, Trainer, TrainingArguments

from mtdnn.errors import ConfigError
from mtdnn.interop.transformers import LogitsModel, RegularizedTrainer, as_batch
from mtdnn.model import MultiTaskModel, make_config
from mtdnn.regularizers.bregman import Bregman
from mtdnn.regularizers.rapt import Rapt
from mtdnn.regularizers.smart import Smart

REGULARIZERS = [Smart(), Smart(site="word", num_steps=2), Smart(option="B"), Rapt(max_layer=2)]


def stock(num_labels=3, family="bert"):
    torch.manual_seed(3)
    config = AutoConfig.for_model(family, vocab_size=20, num_labels=num_labels, **FAMILIES[family])
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


def arguments(folder, **options):
    given = {"per_device_train_batch_size": 8, "max_steps": 3, "logging_steps": 1, "seed": 5, **options}
    quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    return TrainingArguments(output_dir=str(folder), **given, **quiet)


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


def test_a_loss_without_labels_is_refused():
    model = LogitsModel(stock())
    batch = as_batch({"input_ids": torch.ones(2, 3, dtype=torch.long)})
    with pytest.raises(ConfigError, match="labels"):
        model.loss(model(batch), batch)
