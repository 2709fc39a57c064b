"""Every verb as a user types it: what is printed, what is written, and how a mistake is shown."""

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest
from report import recomputed
from report.made_run import write_run
from support import MTDNN, ROOT, own_process, write_toy_experiment

from mtdnn.errors import DataError, EncoderError
from mtdnn.experiment import Experiment
from mtdnn.method_docs import all_methods
from mtdnn.tasks import load_tasks

WORDS_AND_LABELS = [("good", "pos"), ("bad", "neg"), ("fine", "pos"), ("dull", "neg")]
ONLY_JOINT = "systems={mtdnn: [joint]}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with one joint model, trained by the command line."""
    folder = tmp_path_factory.mktemp("cli")
    write_toy_experiment(folder)
    command = [*MTDNN, "run", "toy.yaml", "--task-defs", "tasks", "--set", ONLY_JOINT, "--out", "out"]
    done = subprocess.run(
        command, cwd=folder, env=own_process(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_run_prints_the_table_and_says_where_the_rest_is(trained):
    folder, done = trained
    assert "mean ± sd over n seeds" in done.stdout
    assert re.search(r"mtdnn\W+joint\W+nli", done.stdout)
    assert "1 of 1 cells were trained now" in done.stdout
    assert json.loads((folder / "out/results.json").read_text())[0]["system"] == "mtdnn"
    assert "| mtdnn | joint | sts |" in (folder / "out/results.md").read_text()


def test_a_second_run_says_that_nothing_was_left(trained, mtdnn):
    folder, _ = trained
    code, out, _ = mtdnn(
        "run",
        folder / "toy.yaml",
        "--task-defs",
        folder / "tasks",
        "--set",
        ONLY_JOINT,
        "--out",
        folder / "out",
    )
    assert code == 0
    assert "nothing was left to train" in out


def test_a_plan_names_every_cell_and_trains_nothing(tmp_path, mtdnn):
    write_toy_experiment(tmp_path)
    code, out, _ = mtdnn(
        "run", tmp_path / "toy.yaml", "--plan", "--task-defs", tmp_path / "tasks", "--out", tmp_path / "out"
    )
    assert code == 0
    assert out.count("to do") == 9
    assert "mtdnn/adapt/nli/0.25/2" in out
    assert not (tmp_path / "out").exists()


def test_a_plan_refuses_what_the_run_would(tmp_path, mtdnn):
    write_toy_experiment(tmp_path)
    stages = "[{name: j, kind: joint, tasks: [sts]}, {name: a, kind: adapt, tasks: [nli], fractions: [0.5], from: j"
    given = ["--set", f"systems={{x: {stages}, head: {{from: stts}}}}]}}", "--task-defs", tmp_path / "tasks"]
    code, _, err = mtdnn("run", tmp_path / "toy.yaml", "--plan", "--no-probe", *given)
    assert code == 3
    assert "Did you mean 'sts'" in err


def test_evaluate_gives_each_metric_with_its_interval_and_the_predictions(trained, mtdnn, tmp_path):
    folder, _ = trained
    model = folder / "out/mtdnn/joint/joint/full/1/model"
    stored = json.loads((model.parent / "results.json").read_text())["metrics"]["nli"]["test"]["values"]["accuracy"]
    code, out, _ = mtdnn(
        "evaluate",
        model,
        "--task",
        "nli",
        "--split",
        "test",
        "--task-defs",
        folder / "tasks",
        "--out",
        tmp_path / "p.jsonl",
    )
    assert code == 0
    assert f"{100 * stored:.2f}" in out
    assert re.search(r"\d+\.\d\d to \d+\.\d\d", out)
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    right = [row["label"] == ["no", "maybe", "yes"][row["target"]] for row in rows]
    assert sum(right) / len(right) == pytest.approx(stored)


def test_predict_keeps_the_order_and_answers_for_several_tasks(trained, mtdnn, tmp_path):
    folder, _ = trained
    model = folder / "out/mtdnn/joint/joint/full/1/model"
    source = folder / "tasks/nli-test.jsonl"
    code, out, _ = mtdnn("predict", model, source, "--task", "nli,sts")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [set(row) for row in rows] == [{"nli", "sts"}] * 16
    stored = (model.parent / "predictions-nli-test.jsonl").read_text().splitlines()
    for row, line in zip(rows, stored, strict=True):
        expected = json.loads(line)
        assert row["nli"]["label"] == expected["label"]
        assert row["nli"]["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    out_file = tmp_path / "out.jsonl"
    mtdnn("predict", model, source, "--task", "nli", "--out", out_file)
    assert len(out_file.read_text().splitlines()) == 16


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
def test_predict_reads_other_formats_by_the_names_text_a_and_text_b(trained, mtdnn, tmp_path, suffix):
    folder, _ = trained
    model = folder / "out/mtdnn/joint/joint/full/1/model"
    path = tmp_path / f"in{suffix}"
    path.write_text("text_a,text_b\nred cat,cat\n" if suffix == ".csv" else "red cat\n")
    code, out, err = mtdnn("predict", model, path, "--task", "nli")
    if suffix == ".csv":
        assert code == 0
        assert json.loads(out)["nli"]["label"] in ("no", "maybe", "yes")
    else:
        assert code == 4
        assert "task 'nli' reads ['a', 'b']; the row has ['text_a']" in err


def test_check_counts_what_is_there_and_fails_on_what_is_wrong(trained, mtdnn, tmp_path):
    folder, _ = trained
    code, out, _ = mtdnn("check", "nli", "--task-defs", folder / "tasks")
    assert code == 0
    assert re.search(r"nli\W+train\W+48\W+48", out)
    write_toy_experiment(tmp_path)
    path = tmp_path / "tasks/nli-train.jsonl"
    path.write_text(path.read_text() + json.dumps({"uid": "x", "a": "", "b": "cat", "label": "perhaps"}) + "\n")
    code, out, err = mtdnn("check", "nli", "--task-defs", tmp_path / "tasks")
    assert code == 4
    assert "nli-train.jsonl:49: column 'a': empty" in err
    assert "nli-train.jsonl:49: column 'label': unknown label 'perhaps'" in err
    assert "Traceback" not in err


def test_check_names_duplicates_and_contradictory_labels_and_they_are_no_faults(mtdnn, tmp_path):
    write_toy_experiment(tmp_path)
    swapped = [("one", "two", "no"), (" ONE", "two", "no"), ("two", "one", "yes")]  # which is no contradiction
    added = {
        "nli": [*swapped, ("cat", "x", "no"), ("cat", "X", "yes")],
        "sts": [("one", "two", 5.0), ("two", "one", 5.0), ("a", "b", 5.0), ("a", "b", 2.5)],
        "rank": [("q", "same", "1"), ("q", "same", "1"), ("q", "other", "0")],
    }
    for task, rows in added.items():
        path = tmp_path / f"tasks/{task}-train.jsonl"
        lines = [
            {"uid": f"new{number}", "group": "new", "a": a, "b": b, "label": label}
            for number, (a, b, label) in enumerate(rows)
        ]
        path.write_text(path.read_text() + "".join(json.dumps(line) + "\n" for line in lines))
    code, out, _ = mtdnn("check", "nli", "sts", "rank", "--task-defs", tmp_path / "tasks")
    assert code == 0
    told = out.replace(f"{tmp_path / 'tasks'}/", "")
    same, parted = (
        "train: duplicates, the same texts and target: 1",
        "train: contradictory targets of the same texts: 1",
    )
    for text in (
        f"task 'nli', {same}\n  nli-train.jsonl:49; nli-train.jsonl:50\n",
        f"task 'nli', {parted}\n  nli-train.jsonl:52: no; nli-train.jsonl:53: yes\n",
        f"task 'sts', {same}\n  sts-train.jsonl:49; sts-train.jsonl:50\n",
        f"task 'sts', {parted}\n  sts-train.jsonl:51: 5; sts-train.jsonl:52: 2.5\n",
        f"task 'rank', {same}\n  rank-train.jsonl:145 (group new, row 1); rank-train.jsonl:145 (group new, row 2)\n",
    ):
        assert text in told
    assert told.count("warning:") == 5


def test_tasks_list_and_show_name_the_shipped_ones(mtdnn):
    code, out, _ = mtdnn("tasks", "list")
    assert code == 0
    shipped = {path.stem for path in (ROOT / "task_defs").glob("*.yaml")}
    assert len(shipped) >= 30
    assert all(name in out for name in shipped)
    code, out, _ = mtdnn("tasks", "show", "scitail")
    assert code == 0
    assert "kind: classification" in out


def test_methods_list_and_show_give_summary_options_and_presets(mtdnn):
    code, out, _ = mtdnn("methods", "list")
    assert code == 0
    assert all(name in out for name in ("smart", "bregman", "round_robin", "proportional", "standard"))
    code, out, _ = mtdnn("methods", "show", "smart")
    assert code == 0
    assert "official-2020-08" in out
    assert "Algorithm 1" in out
    assert ":param" not in out
    assert mtdnn("methods", "show", "smrt")[0] == 3


def test_methods_compare_shows_where_two_presets_differ_and_says_what_each_is(mtdnn):
    code, out, _ = mtdnn("methods", "compare", "paper", "official-2020-08")
    assert code == 0
    assert all(text in out for text in ("radius", "1e-05", "100,000 times", "below measurement"))
    assert "num_steps" not in out
    code, _, err = mtdnn("methods", "compare", "paper", "official-2020")
    assert code == 3
    assert "official-2020-0" in err
    assert mtdnn("methods", "compare", "cola", "official-2020-08")[0] == 3


def test_every_method_documents_every_option_and_every_preset():
    for method in all_methods():
        assert set(method.option_texts) == set(method.options), method.name
        assert set(method.notes) <= set(method.presets), method.name
        assert method.summary.endswith((".", ":")), method.name
        assert method.kind == "sampler" or method.name == "standard" or method.cost, method.name
        assert method.cost == method.cost.strip(), method.name


def test_a_user_s_own_csv_becomes_a_task_that_trains(mtdnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reviews = [(f"really {word} film number {i}", label) for i in range(30) for word, label in WORDS_AND_LABELS]
    with (tmp_path / "My reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Review Text", "Sentiment"), *reviews])
    code, out, _ = mtdnn("tasks", "new", "--data", "My reviews.csv")
    assert code == 0
    assert "text_a: 'Review Text' (guessed" in out
    assert "target: 'Sentiment' (guessed" in out
    assert "mtdnn check My_reviews" in out
    code, out, _ = mtdnn("check", "My_reviews")
    assert code == 0
    small = ("--set", "encoder.path=tiny", "--set", "train.epochs=1", "--set", "train.min_updates=1")
    code, out, err = mtdnn(
        "run", "own_task", *small, "--set", "seeds=[1]", "--set", "stages.finetune.tasks=[My_reviews]"
    )
    assert code == 0, err
    assert re.search(r"smart\W+finetune\W+My_reviews\W+accuracy", out)
    code, _, err = mtdnn("tasks", "new", "--data", "My reviews.csv")
    assert code == 3
    assert "is there already" in err


def test_a_new_task_sees_every_label_of_a_file_that_is_sorted_by_label(mtdnn, tmp_path):
    with (tmp_path / "sorted.csv").open("w", newline="") as file:
        rows = [(f"some words {i}", label) for label in "abc" for i in range(3000)]
        csv.writer(file).writerows([("text", "label"), *rows])
    code, _, _ = mtdnn("tasks", "new", "--data", tmp_path / "sorted.csv", "--folder", tmp_path / "defs")
    assert code == 0
    assert "labels:\n- a\n- b\n- c\n" in (tmp_path / "defs/sorted.yaml").read_text()


def test_a_new_task_takes_spellings_of_a_label_together_and_tells_what_is_empty(mtdnn, tmp_path):
    rows = [
        ("some words", "good"),
        ("more words", "bad"),
        ("other words", "Good "),
        ("last words", "good"),
        ("", "bad"),
    ]
    with (tmp_path / "mixed.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    assert mtdnn("tasks", "new", "--data", tmp_path / "mixed.csv", "--name", "mnli")[0] == 3
    code, out, _ = mtdnn("tasks", "new", "--data", tmp_path / "mixed.csv", "--folder", tmp_path / "defs")
    assert code == 0
    assert "labels: 'Good ' counts as 'good'" in out
    assert "rows with nothing in 'text': 1" in out
    assert load_tasks(tmp_path / "defs")["mixed"].label_words == (("bad",), ("good", "Good "))


def test_a_new_task_counts_its_labels_and_points_out_a_rare_one_that_looks_like_a_frequent_one(mtdnn, tmp_path):
    labels = [*["billing", "technical"] * 6, "tecnical", "sales"]
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((f"some words {i}", each) for i, each in enumerate(labels))])
    code, out, _ = mtdnn("tasks", "new", "--data", tmp_path / "tickets.csv", "--folder", tmp_path / "defs")
    told = " ".join(out.split())
    assert code == 0
    assert "labels: billing 6, sales 1, technical 6, tecnical 1" in told
    assert "labels: 'tecnical' (1 of 14 rows) looks like 'technical' misspelt" in told
    assert told.count("misspelt") == 1


def line_of(path, text):
    return next(number for number, each in enumerate(path.read_text().splitlines(), 1) if text in each)


def test_a_column_that_only_the_layout_names_is_told_there(mtdnn, tmp_path):
    (tmp_path / "data/rte").mkdir(parents=True)
    (tmp_path / "data/rte/train.jsonl").write_text('{"premisse": "a b", "hypothesis": "c", "label": "entailment"}\n')
    text = (ROOT / "task_defs/rte.yaml").read_text().replace("jsonl.xz", "jsonl").replace("test: test_unlabelled", "")
    path = tmp_path / "rte.yaml"
    path.write_text(text.replace("train: train, validation: validation, ", "train: train").replace("uid: uid", ""))
    code, _, told = mtdnn("check", "rte", "--task-defs", tmp_path, "--data-dir", tmp_path / "data")
    assert code == 3
    assert f"{path}:{line_of(path, 'premise')}: data.files.inputs.text_a: unknown column 'premise'" in told


@pytest.mark.parametrize("bad_rows", ["stop", "skip"])
def test_a_column_that_no_row_has_is_the_definition_s_fault_and_told_once(mtdnn, tmp_path, bad_rows):
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("Text", "label"), *((f"some words {i}", "ab"[i % 2]) for i in range(60))])
    assert mtdnn("tasks", "new", "--data", tmp_path / "tickets.csv", "--folder", tmp_path / "defs")[0] == 0
    path = tmp_path / "defs/tickets.yaml"
    path.write_text(path.read_text().replace("text_a: Text", "text_a: text"))
    line = line_of(path, "text_a")
    code, _, told = mtdnn("check", "tickets", "--task-defs", tmp_path / "defs", "--bad-rows", bad_rows)
    assert code == 3
    assert f"{path}:{line}: inputs.text_a: unknown column 'text'. Did you mean 'Text'? Known: Text, label" in told
    assert told.count("unknown column") == 1
    assert "faults" not in told
    wanted = [f"data.bad_rows={bad_rows}", "encoder.path=tiny", "stages.finetune.tasks=[tickets]"]
    options = [each for setting in wanted for each in ("--set", setting)]
    code, _, told = mtdnn("run", "own_task", "--task-defs", tmp_path / "defs", "--out", tmp_path / "out", *options)
    assert code == 3
    assert told.count(f"{path}:{line}: inputs.text_a: unknown column 'text'") == 1


def test_a_bad_row_of_a_file_that_holds_all_splits_is_told_once(mtdnn, tmp_path):
    rows = [f"some words {i},{'ab'[i % 2]}" for i in range(60)]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    mtdnn("tasks", "new", "--data", tmp_path / "mine.csv", "--folder", tmp_path / "defs")
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows, " ,a"]) + "\n")
    code, _, err = mtdnn("check", "mine", "--task-defs", tmp_path / "defs")
    assert code == 4
    assert err.count("mine.csv:62: column 'text': empty text") == 1


def test_predict_scores_single_candidates_and_names_every_empty_text(trained, mtdnn, tmp_path):
    folder, _ = trained
    model = folder / "out/mtdnn/joint/joint/full/1/model"
    code, out, _ = mtdnn("predict", model, folder / "tasks/rank-test.jsonl", "--task", "rank")
    assert code == 0
    assert all(set(json.loads(line)["rank"]) == {"score"} for line in out.splitlines())
    (tmp_path / "in.csv").write_text("text_a,text_b\nred,cat\n,cat\nred, \n")
    code, _, err = mtdnn("predict", model, tmp_path / "in.csv", "--task", "nli")
    assert code == 4
    assert "in.csv:3: column 'text_a': empty text ''" in err
    assert "in.csv:4: column 'text_b': empty text ' '" in err


def test_check_tells_each_fault_of_a_definition_once_and_reads_no_data_with_it(mtdnn, tmp_path):
    write_toy_experiment(tmp_path)
    definition = tmp_path / "tasks/nli.yaml"
    definition.write_text(definition.read_text().replace("kind: classification", "kind: clasification"))
    code, _, err = mtdnn("check", "nli", "--task-defs", tmp_path / "tasks")
    assert code != 0
    assert err.count("unknown head 'clasification'. Did you mean 'classification'") == 1


def test_report_writes_the_page_of_a_run_whose_every_number_the_predictions_give_again(trained, mtdnn, tmp_path):
    folder, _ = trained
    code, out, _ = mtdnn("report", folder / "out", "--out", tmp_path / "report")
    assert code == 0
    assert f"wrote {tmp_path / 'report/report.html'} and" in out
    page = (tmp_path / "report/report.html").read_text()
    assert "No two systems share a task and a fraction: nothing to compare." in page
    assert not recomputed.main(folder / "out", tmp_path / "report")


@pytest.fixture
def adapted(trained, mtdnn, tmp_path):
    """Adapt to a small task of one's own: (exit code, stdout in one line, stderr)."""
    rows = [f"{word} thing {number},{label}" for number in range(60) for word, label in WORDS_AND_LABELS]
    (tmp_path / "mine.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    shares = ("--fractions", "0.1,1.0", "--seeds", "1,2", "--task-defs", tmp_path / "defs", "--out", tmp_path / "out")
    short = ("--set", "train.epochs=1", "--set", "train.min_updates=1")
    few = ("--set", "systems.adapt.0.few_shot.train={min_updates: 2}")

    def run(*options, model=trained[0] / "out/mtdnn/joint/joint/full/1/model"):
        given = options if "--task" in options else ("--data", tmp_path / "mine.csv", *options)
        code, out, err = mtdnn("adapt", "--from", model, *shares, *short, *few, *given)
        return code, " ".join(out.split()), err

    return run


SAVED = (
    r"the checkpoint (reaches|does not reach) \d+\.\d \(what the encoder reaches with \d+ labels\) with .* \(.*2 seeds"
)


def test_adapt_ends_in_the_curve_and_the_labels_that_a_checkpoint_saves(adapted, mtdnn, tmp_path):
    code, out, _ = adapted()
    assert code == 0
    assert "target: 'label' (guessed" in out
    assert "compared with tiny, which the checkpoint began with; --no-compare leaves that out" in out
    assert re.search(r"labels ┃ checkpoint ┃ encoder", out)
    assert re.search(SAVED, out)
    assert (tmp_path / "out/report/report.html").is_file()
    again, told, _ = adapted("--task", "mine", "--encoder", "tiny", "--score", "40.5")
    assert again == 0
    assert "guessed" not in told
    assert "compared with" not in told
    assert re.search(r"the checkpoint (reaches|does not reach) 40\.5 with .*, the encoder .* labels", told)
    assert mtdnn("adapt", "--from", tmp_path)[0] == 3


def test_adapt_without_a_comparison_says_how_many_labels_reach_a_score(adapted, trained, tmp_path):
    alone = r"the checkpoint reaches \d+\.\d \(one point less than with \d+ labels\) with .* labels.* \(.*2 seeds"
    code, out, _ = adapted("--no-compare")
    assert code == 0
    assert re.search(alone, out)
    assert "encoder" not in out
    moved = tmp_path / "moved"
    shutil.copytree(trained[0] / "out/mtdnn/joint/joint/full/1/model", moved)
    code, out, _ = adapted("--task", "mine", "--out", tmp_path / "second", model=moved)
    assert code == 0
    assert "moved does not record what it began with; say it with --encoder" in out
    assert re.search(alone, out)
    for options, told in (
        (("--no-compare", "--encoder", "tiny"), "leave it or --no-compare out"),
        (("--score", "0.8"), "a score times 100, above 1 and at most 100; say 80"),
        (("--score", "800"), "a score times 100, above 1 and at most 100"),
        (("--jobs", "0"), "--jobs must be at least 1"),
    ):
        code, _, err = adapted(*options)
        assert code == 3
        assert told in err


def test_a_cell_of_one_start_that_fails_leaves_the_other_start_and_the_curve(adapted, monkeypatch):
    run_cell = Experiment.run_cell

    def failing(job, cell):
        if job.out.name == "checkpoint" and cell.seed == 1:
            raise DataError("as if a row were bad")
        run_cell(job, cell)

    monkeypatch.setattr(Experiment, "run_cell", failing)
    code, out, err = adapted()
    assert code == DataError.exit_code
    assert re.search(r"labels ┃ checkpoint ┃ encoder", out)
    assert "saved (one seed: how sure that is, is not known)" in out or "nothing was measured" in out
    assert "error: checkpoint: 2 of 4 cells failed" in err
    assert "as if a row were bad" in err


def test_an_encoder_that_is_not_there_is_told_before_anything_is_trained(adapted, tmp_path):
    code, _, err = adapted("--encoder", tmp_path / "none")
    assert code == EncoderError.exit_code
    assert "cannot be loaded" in err
    assert not list((tmp_path / "out").rglob("results.json"))


def test_compare_is_the_paired_test_of_two_systems(mtdnn, tmp_path):
    run = write_run(tmp_path / "made", {"plain": 0.5, "smart": 0.95})
    code, out, _ = mtdnn("compare", run / "plain", run / "smart", "--out", tmp_path / "pairs.csv")
    assert code == 0
    assert (tmp_path / "pairs.csv").read_text().startswith("task,fraction,a,b,split,metric,b - a,95 % over seeds,n,")
    assert re.search(
        r"smart \+\d+\.\d against plain on nli at 10 % \(test accuracy, 3 seeds, 60 examples\): resolved, over seeds",
        out,
    )
    assert re.search(r"nli at 10 %\W+test\W+accuracy\W+\d+\.\d .* resolved", out)
    assert mtdnn("compare", run / "plain", run / "smrat")[0] == 3


def test_analyse_figure1_prints_the_losses_and_writes_every_margin(mtdnn, tmp_path):
    code, out, _ = mtdnn("analyse", "figure1", "--out", tmp_path, "--step", "0.5", "--radius", "1")
    assert code == 0
    assert re.search(r"-4 +│ 4.018 +│ 9.025", out)  # log(1 + e^4), and log(1 + e^5) beside it
    rows = list(csv.DictReader((tmp_path / "figure1.csv").read_text().splitlines()))
    assert [float(row["margin"]) for row in rows] == [step / 2 for step in range(-8, 9)]
    assert all((tmp_path / f"figure1.{suffix}").is_file() and f"figure1.{suffix}" in out for suffix in ("png", "svg"))


def test_analyse_without_matplotlib_writes_the_numbers_and_says_how_to_get_the_plot(mtdnn, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, _ = mtdnn("analyse", "figure1", "--out", tmp_path)
    assert code == 0
    assert "pip install 'mtdnn[plot]'" in out
    assert [path.name for path in tmp_path.iterdir()] == ["figure1.csv"]


def test_analyse_neighbours_shows_and_writes_the_words_of_a_checkpoint(trained, mtdnn, tmp_path):
    folder, _ = trained
    model = folder / "out/mtdnn/joint/joint/full/1/model"
    text = ("--text", "the red cat sees a dog", "--word", "cat", "--top", "4")
    code, out, _ = mtdnn("analyse", "neighbours", model, *text, "--method", "smart", "--out", tmp_path / "n.csv")
    assert code == 0
    assert "nearest to 'cat' at embeddings, smart" in out
    rows = list(csv.DictReader((tmp_path / "n.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert all(row["before"] in out and row["after"] in out for row in rows)
    among = ("--set", "max_layer=1", "--among", folder / "tasks/nli-train.jsonl", "--task", "nli")
    code, out, _ = mtdnn("analyse", "neighbours", model, *text, *among)
    assert code == 0
    assert "at layer:1, rapt" in out
    assert mtdnn("analyse", "neighbours", model, *text, "--method", "bregman")[0] == 3


def test_analyse_max_layer_reads_what_a_run_left(trained, mtdnn, tmp_path):
    folder, _ = trained
    code, _, err = mtdnn("analyse", "max-layer", folder / "out", "--out", tmp_path)
    assert code == 3
    assert "no system of this run has RAPT" in err
    results = json.loads((folder / "out/mtdnn/joint/joint/full/1/results.json").read_text())
    results["inputs"]["stage"]["regularizers"] = [{"type": "rapt", "max_layer": 2}]
    cell = tmp_path / "mtdnn/joint/joint/full/1"
    cell.mkdir(parents=True)
    (cell / "results.json").write_text(json.dumps(results))
    code, out, _ = mtdnn("analyse", "max-layer", tmp_path)
    assert code == 0
    assert re.search(r"joint +│ nli +│ +│ accuracy +│ 2 ", out)
    rows = list(csv.DictReader((tmp_path / "max_layer.csv").read_text().splitlines()))
    assert {row["task"] for row in rows} == {"nli", "sts", "rank"}
    assert (tmp_path / "max_layer.svg").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "quickstrat"), 3, "Did you mean 'quickstart'"),
        (("run", "missing/file.yaml"), 3, "missing/file.yaml"),
        (("run", "quickstart", "--set", "train.epohs=3"), 3, "Did you mean 'epochs'"),
        (("run", "quickstart", "--set", "encoder.path=no/where", "--out", "{tmp}"), 5, "no/where"),
        (("run", "own_task"), 3, "unknown task 'your_task'"),
        (
            ("run", "own_task", "--set", "stages.finetune.tasks=[rte]", "--data-dir", "{tmp}", "--out", "{tmp}"),
            4,
            "{tmp}",
        ),
        (("tasks", "show", "scitial"), 3, "Did you mean 'scitail'"),
        (("tasks", "new", "--data", "{tmp}/none.csv"), 4, "no such file"),
        (("evaluate", "{tmp}", "--task", "nli"), 6, "{tmp}"),
        (("analyse", "figure1", "--step", "0", "--out", "{tmp}"), 3, "above 0"),
        (("analyse", "max-layer", "{tmp}"), 4, "no finished cells"),
        (("analyse", "neighbours", "{tmp}", "--text", "a cat", "--word", "cat"), 6, "{tmp}"),
        (("predict", "{tmp}/model", "in.txt", "--task", "nli"), 6, "{tmp}/model"),
    ],
)
def test_a_mistake_is_one_message_with_its_own_exit_code(mtdnn, tmp_path, arguments, code, message):
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    ended, _, err = mtdnn(*filled)
    assert ended == code, err
    assert message.replace("{tmp}", str(tmp_path)) in err.replace("\n", "")
    assert "Traceback" not in err


def test_help_does_not_import_torch():
    code = (
        "import sys\nsys.argv = ['mtdnn', '--help']\nfrom mtdnn.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in ("run", "evaluate", "predict", "check", "tasks", "methods", "analyse"))
