"""Every cell of every table of a real run's report is what an independent script computes from the predictions."""

import ast
import csv
import io
import random
import re
import shutil
from pathlib import Path

import pytest
from report import recomputed
from support import write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.experiment import Experiment
from mtdnn.metrics.base import METRICS
from mtdnn.report.write import write_report
from mtdnn.run_experiment import write_results
from mtdnn.tasks import load_tasks

EXPERIMENT = """
name: five-kinds
description: Five kinds of tasks; one, two and three seeds.
encoder: {path: tiny, pool: mean, max_length: 48}
seeds: [1, 2, 3]
train: {epochs: 2, batch_size: 8, learning_rate: 2e-3, precision: fp32}
stages:
  joint: {kind: joint, tasks: [scitail, sts, rank], seeds: [1]}
  adapt: {kind: adapt, from: joint, tasks: [scitail], fractions: [0.25, 1.0]}
  finetune: {kind: finetune, tasks: [sts, rank], seeds: [1, 2]}
  words: {kind: finetune, tasks: [tagged, reading], seeds: [1]}
systems:
  bert: [{base: adapt, from: null}, finetune, words]
  mtdnn: [joint, adapt, {base: finetune, from: joint}]
  smart_mtdnn:
    - {base: joint, regularizers: &both [{type: smart, preset: default}, {type: bregman}], train: {diagnose_every: 2}}
    - adapt
    - {base: words, regularizers: *both, train: {diagnose_every: 2}}
"""
TASKS = {
    "scitail": "{extends: nli, metrics: [accuracy, f1_macro, matthews_corrcoef]}",
    "sts": "{extends: toy_sts, metrics: [pearson, spearman]}",
    "rank": "{extends: toy_rank, metrics: [mrr, map, ndcg@10, hits@1]}",
    "tagged": "{extends: everyday_tagging, data: {generated: {corpus: tagging, uid: uid, sizes: &few {train: 32, "
    "validation: 16, test: 24}}}}",
    "reading": "{extends: everyday_reading, data: {generated: {corpus: reading, uid: uid, sizes: {train: 32, "
    "validation: 16, test: 24}}}}",
}
PUBLISHED = """
source: "None: made up"
encoder: tiny
split: test
figures:
  - {system: bert, task: scitail, fraction: 0.25, metric: accuracy, value: 51.2}
  - {system: mtdnn, task: scitail, metric: accuracy, value: 99.9}
  - {system: mtdnn, task: sts, metric: pearson, split: validation, value: 12.5, encoder: another}
"""
TABLES = {"differences", "differences-other-metrics", "results", "transfer", "diagnostics", "calibration"}
TABLES |= {"calibration-differences", "stages", "training-options", "versions"}
TABLES |= {"published-five_kinds", "confusion-mtdnn-scitail-0.25", "hardest-scitail-25%-test"}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A run with five kinds of tasks, and its report."""
    folder = tmp_path_factory.mktemp("recomputed")
    path = write_toy_experiment(folder, text=EXPERIMENT, rows=32)
    path.with_suffix(".published.yaml").write_text(PUBLISHED)
    for name in ("sts", "rank"):
        (folder / f"tasks/{name}.yaml").rename(folder / f"tasks/toy_{name}.yaml")
    for name, text in TASKS.items():
        (folder / f"tasks/{name}.yaml").write_text(f"{text}\n")
    run = folder / "run"
    job = Experiment(load_experiment(path), load_tasks(folder / "tasks"), out=run)
    write_results(run, job.run())
    write_report([run], run / "report")
    return run


pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::mtdnn.metrics.base.UndefinedMetricWarning")]


def test_every_cell_is_recomputed_from_the_predictions(reported, capsys):
    assert not recomputed.main(reported), capsys.readouterr().out
    told = re.fullmatch(r"(\d+) cells, 0 faults; 0 results differ\n", capsys.readouterr().out)
    assert int(told[1]) > 1000
    tables = {path.stem for path in (reported / "report/tables").glob("*.csv")}
    assert tables >= TABLES
    assert any(name.startswith("changed-") for name in tables)
    metrics = {metric for _, metric, _, _ in recomputed.stated(reported)}
    assert metrics >= {"accuracy", "pearson", "mrr", "span_f1", "squad_f1", "exact_match"}
    verdicts = {row["verdict"] for row in rows_of(reported / "report/tables/differences.csv")}
    assert "one seed" in verdicts
    assert any(verdict.startswith(("not resolved", "resolved", "these examples")) for verdict in verdicts)


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def changed(text, rng):
    """One number of a cell, one of its digits another one; without a number, one more letter."""
    places = [match.start() for match in re.finditer(r"\d", text)]
    if not places:
        return f"{text}x"
    place = rng.choice(places)
    return text[:place] + rng.choice([digit for digit in "0123456789" if digit != text[place]]) + text[place + 1 :]


def test_a_changed_cell_of_any_column_of_any_table_is_found(reported, tmp_path):
    """A cell of each column at a random row, one at a time."""
    rng, tried, report = random.Random(0), 0, tmp_path / "report"
    shutil.copytree(reported / "report/tables", report / "tables")
    wanted = recomputed.expected(recomputed.Run(reported))
    for path in sorted(report.glob("tables/*.csv")):
        whole = path.read_text(encoding="utf-8")
        for column in range(len(next(csv.reader(io.StringIO(whole))))):
            rows = list(csv.reader(io.StringIO(whole)))
            row = rng.choice(rows[1:])
            row[column] = changed(row[column], rng)
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
            assert recomputed.table_faults(path, wanted)[0], (path.name, row, column)
            tried += 1
        path.write_text(whole, encoding="utf-8")
    assert tried > 150


def test_a_table_a_row_or_a_column_more_or_less_is_found(reported, tmp_path):
    wanted = recomputed.expected(recomputed.Run(reported))
    whole = (reported / "report/tables/results.csv").read_text()
    rows = whole.splitlines(keepends=True)
    changes = {
        "a table that is not known here": ("new.csv", "what,value\nx,1\n"),
        "rows, not": ("results.csv", "".join(rows[:-1])),
        "column 'more' is not known here": ("results.csv", re.sub(r"$\n", ",more\n", whole, flags=re.MULTILINE)),
        "no such table": ("results.csv", None),
    }
    for number, (fault, (name, text)) in enumerate(changes.items()):
        report = tmp_path / str(number)
        shutil.copytree(reported / "report/tables", report / "tables")
        (report / "tables" / name).write_text(text) if text else (report / "tables" / name).unlink()
        assert any(fault in each for each in recomputed.compared_with(wanted, report)[0]), fault


def test_predictions_that_were_changed_are_found(reported, tmp_path):
    """The other way round: the report stays, an answer of one model is another."""
    run = tmp_path / "run"
    shutil.copytree(reported, run)
    path = run / "bert/adapt/scitail/0.25/2/predictions-scitail-test.jsonl"
    text = path.read_text()
    path.write_text(re.sub(r'"prediction": (\d)', lambda m: f'"prediction": {(int(m[1]) + 1) % 3}', text, count=1))
    found, _ = recomputed.faults(run, run / "report")
    assert {each.partition(",")[0].partition(":")[0] for each in found} >= {"results", "confusion-bert-scitail-0.25"}


def test_the_script_imports_nothing_of_the_package():
    tree = ast.parse(Path(recomputed.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in imports}
    assert not {name for name in names if name.split(".")[0] in ("mtdnn", "support", "report")}


RANKED = {
    "a tie of right and wrong": ([[0.5, 0.5, 0.1]], [[1, 0, 0]]),
    "a tie of all": ([[0.0, 0.0, 0.0, 0.0]], [[1, 0, 1, 0]]),
    "a tie below the best": ([[0.1, 0.9, 0.1, 0.4]], [[1, 1, 0, 0]]),
    "groups that do not count": ([[0.3, 0.2], [0.1, 0.1], [0.2, 0.2]], [[1, 1], [0, 0], [0, 1]]),
    "none that counts": ([[0.3, 0.2]], [[1, 1]]),
}


@pytest.mark.parametrize("case", RANKED)
@pytest.mark.parametrize("metric", ["mrr", "map", "ndcg@10", "hits@1"])
def test_ties_are_ranked_worst_case_by_both(metric, case):
    given, right = RANKED[case]
    assert METRICS.get(metric, where="")(given, right) == pytest.approx(recomputed.METRICS[metric](given, right) or 0.0)


def test_a_tie_by_hand():
    """The right one of three comes second where a wrong one has its score."""
    given, right = RANKED["a tie of right and wrong"]
    assert recomputed.METRICS["mrr"](given, right) == 0.5
    assert recomputed.METRICS["hits@1"](given, right) == 0


def test_the_script_knows_every_metric_of_the_package():
    assert recomputed.METRICS.keys() == {*METRICS.names()}


WORDS = {
    "span_f1": (
        [["B-X", "I-X", "O", "I-Y"], ["I-X", "B-X", "I-Z"]],
        [["B-X", "I-X", "B-Y", "I-Y"], ["B-X", "B-X", "O"]],
    ),
    "squad_f1": (["The red-cat!", "a", ""], [["red cat", "redcat sat"], ["an", "b"], ["x"]]),
    "exact_match": (["The red  cat!", "a", "b"], [["red cat"], ["an", "b"], ["c"]]),
    "f1": ([1, 0, 1, 1], [1, 1, 0, 1]),
    "f1_macro": ([2, 0, 1, 1, 3], [2, 1, 0, 1, 1]),
    "matthews_corrcoef": ([2, 0, 1, 1, 3], [2, 1, 0, 1, 1]),
    "spearman": ([0.1, 0.1, 0.4, 0.2], [1.0, 2.0, 2.0, 0.5]),
    "pearson": ([0.5, 0.5], [1.0, 2.0]),
}


@pytest.mark.parametrize("metric", WORDS)
def test_both_agree_on_the_awkward_cases_of_a_metric(metric):
    given, right = WORDS[metric]
    assert METRICS.get(metric, where="")(given, right) == pytest.approx(recomputed.METRICS[metric](given, right) or 0.0)
