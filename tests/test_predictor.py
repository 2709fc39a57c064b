"""Predictions of new texts: in order, from one encoding, without growing."""

import gc
import random
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import own_process

import mtdnn
from mtdnn import new_texts
from mtdnn import predictor as predictor_module
from mtdnn.data.sources import find_source
from mtdnn.data.tokenize import load_split, tokenizer_name
from mtdnn.errors import CheckpointError, ConfigError, DataError, MemoryExceededError
from mtdnn.heads.base import build_head
from mtdnn.model import MultiTaskModel
from mtdnn.predictor import Predictor, batches_by_length
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer

NLI, NAMES = "everyday_nli", ("everyday_nli", "everyday_similarity")
WORDS = ("dog", "cat", "garden", "sleeps", "runs", "small", "the", "no", "old")


@pytest.fixture(scope="module")
def predictor():
    tasks = load_tasks()
    return Predictor(tiny_model([tasks[name] for name in NAMES]).eval(), tiny_tokenizer())


@pytest.fixture
def folder(predictor, tmp_path):
    """A model folder as a run leaves it, with its tokenizer."""
    predictor.model.config.tokenizer = tokenizer_name(predictor.tokenizer)
    predictor.model.save_pretrained(tmp_path)
    predictor.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def rows_of(count):
    rng = random.Random(0)
    return [
        {name: " ".join(rng.choices(WORDS, k=rng.randint(1, 40))) for name in ("text_a", "text_b")}
        for _ in range(count)
    ]


@given(lengths=st.lists(st.integers(0, 300), max_size=200), tokens=st.integers(1, 2000))
def test_every_row_is_in_one_batch_that_holds_no_more_tokens_than_it_may(lengths, tokens):
    batches = list(batches_by_length(lengths, tokens))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= max(tokens, len(batch))


def test_rows_come_in_order_whatever_shares_their_batch(predictor, monkeypatch):
    rows, task = rows_of(50), predictor.task("everyday_nli")
    alone = [predictor.predict([row], [task])[0] for row in rows]
    monkeypatch.setattr(predictor_module, "BATCH_TOKENS", {"cpu": 200})
    together = predictor.predict(rows, [task])
    for one, other in zip(alone, together, strict=True):
        assert other["everyday_nli"]["probabilities"] == pytest.approx(one["everyday_nli"]["probabilities"], abs=1e-5)
    assert len({str(each) for each in together}) > 40


def test_tasks_that_read_the_same_texts_share_one_encoding(predictor, monkeypatch):
    rows, tasks = rows_of(3), [predictor.task(name) for name in NAMES]
    ran = []
    monkeypatch.setattr(predictor.model, "pooled", lambda inputs: ran.append(1) or torch.zeros(3, 32))
    found = predictor.predict(rows, tasks)
    assert len(ran) == 1
    assert [list(each) for each in found] == [list(NAMES)] * 3


def test_a_lower_precision_changes_little(predictor):
    rows, task = rows_of(20), predictor.task("everyday_nli")
    lower = Predictor(predictor.model, predictor.tokenizer, "bf16")
    wide, narrow = (
        torch.tensor([list(each["everyday_nli"]["probabilities"].values()) for each in found.predict(rows, [task])])
        for found in (predictor, lower)
    )
    assert 0 < (wide - narrow).abs().max() < 0.02


def test_what_is_held_does_not_grow_with_the_rows(predictor, monkeypatch):
    monkeypatch.setattr(new_texts, "WINDOW", 32)
    task, held = predictor.task("everyday_nli"), []

    def stream():
        for number, row in enumerate(rows_of(320)):
            if number % 32 == 31:
                gc.collect()
                held.append(sum(type(each) is torch.Tensor for each in gc.get_objects()))
            yield row["text_a"], row["text_b"]

    assert len(list(predictor.predict_texts(stream(), task))) == 320
    assert max(held[1:]) == min(held[1:])


def test_too_little_memory_is_told_with_the_batch(predictor, monkeypatch):
    def fails(inputs):
        raise MemoryError

    monkeypatch.setattr(predictor.model, "pooled", fails)
    with pytest.raises(MemoryExceededError, match="predicting task 'everyday_nli', 3 rows x"):
        predictor.predict(rows_of(3), [predictor.task("everyday_nli")])


def test_a_model_that_was_read_from_a_folder_predicts_as_its_predictor_does(predictor, folder):
    rows, model = rows_of(5), mtdnn.MultiTaskModel.from_pretrained(folder)
    pairs = [(row["text_a"], row["text_b"]) for row in rows]
    expected = predictor.predict(rows, predictor.tasks(NAMES))
    assert model.predict(NLI, pairs) == [each[NLI] for each in expected]
    assert model.predict(NAMES, iter(rows)) == expected
    assert model.predict(NLI, []) == []


def test_a_model_in_training_predicts_without_dropout_and_stays_in_training(folder):
    model = MultiTaskModel.from_pretrained(folder)
    still = model.predict(NLI, [("dog", "cat")])
    assert model.train().predict(NLI, [("dog", "cat")]) == still
    assert model.training


def test_a_model_without_a_folder_says_what_to_do(predictor):
    with pytest.raises(ConfigError, match=r"use Predictor\(model, tokenizer\)"):
        MultiTaskModel(predictor.model.config).predict(NLI, [("dog", "cat")])


def test_a_model_beside_another_tokenizer_is_refused_each_time(folder):
    model = MultiTaskModel.from_pretrained(folder)
    model.config.tokenizer = "another"
    for _ in range(2):
        with pytest.raises(CheckpointError, match="the model was trained with another"):
            model.predict(NLI, [("dog", "cat")])


def test_rows_in_memory_are_texts_pairs_or_mappings_and_every_other_one_is_named(predictor):
    rows = [("dog", "cat"), {"text_a": "dog", "text_b": "cat"}, {"premise": "dog", "hypothesis": "cat"}]
    first, *others = predictor.predict_rows(rows, tasks=[NLI])
    assert others == [first, first]
    with pytest.raises(DataError) as caught:
        list(predictor.predict_rows([("dog", "cat"), "dog", ("dog", " "), 3, ("a", "b", "c")], tasks=[NLI]))
    told = str(caught.value).splitlines()
    assert told[0] == "rows: faults: 4"
    assert [line.split(":")[0] for line in told[1:]] == ["row 2", "row 3", "row 4", "row 5"]


def test_all_tasks_or_the_only_one_need_not_be_named(predictor):
    assert [task.name for task in predictor.tasks(["all"])] == list(NAMES)
    with pytest.raises(ConfigError, match="everyday_nli, everyday_similarity; name some of them, or all"):
        predictor.tasks()
    alone = Predictor(tiny_model([load_tasks()[NLI]]), tiny_tokenizer())
    assert [task.name for task in alone.tasks()] == [NLI]


def test_only_the_names_that_are_asked_for_are_imported():
    code = "import sys, mtdnn; assert 'torch' not in sys.modules; mtdnn.Predictor; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=own_process())
    assert {"run", "MultiTaskModel", "Predictor"} < set(dir(mtdnn))
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        _ = mtdnn.predict


def test_evaluating_a_model_with_other_options_leaves_the_definition_s_own_rows_alone(tmp_path, monkeypatch):
    """The model was trained with questions cut at 4 pieces; the definition now says 8."""
    monkeypatch.setenv("MTDNN_CACHE", str(tmp_path))
    definition = load_tasks()["everyday_reading"]
    old = definition.model_copy(update={"head": {"stride": 0, "max_question_tokens": 4}})
    new = definition.model_copy(update={"head": {"stride": 0, "max_question_tokens": 8}, "metrics": ["exact_match"]})
    trained = Predictor(tiny_model([old], max_length=24).eval(), tiny_tokenizer())
    assert list(trained.evaluate(new, "validation").metrics) == ["exact_match"]
    loaded = load_split(find_source(new, "validation"), build_head(new), tiny_tokenizer(), max_length=24)
    monkeypatch.setenv("MTDNN_CACHE", str(tmp_path / "clean"))
    clean = load_split(find_source(new, "validation"), build_head(new), tiny_tokenizer(), max_length=24)
    assert loaded.units(range(20))["input_ids"] == clean.units(range(20))["input_ids"]
