"""The published figures beside the experiments: they load, name what is there, and a fault is named with its line."""

import json
from statistics import mean

import pytest
from support import ROOT

from mtdnn.config import find_experiment, load_experiment
from mtdnn.errors import ConfigError
from mtdnn.published import (
    TRAIN_MINUTES,
    Published,
    kept_published,
    load_published,
    offers_of,
    read_published,
    shipped_published,
)
from mtdnn.tasks import load_tasks

FILES = sorted((ROOT / "experiments").glob("*.published.yaml"))
NAMES = [path.name.removesuffix(".published.yaml") for path in FILES]

EXPERIMENT = """
name: mine
encoder: {path: tiny}
stages: {adapt: {kind: adapt, tasks: [scitail], fractions: [0.01, 1.0]}}
systems: {bert: [adapt], nli: [{name: finetune, kind: finetune, tasks: [mnli]}]}
sizes: {more: {systems.smart: [{name: finetune, kind: finetune, tasks: [rte]}]}}
"""
HEADER = "source: a paper, table 1\nencoder: bert-base-uncased\nsplit: validation\nfigures:\n"
GOOD = "  - {system: bert, task: scitail, metric: accuracy, fraction: 0.01, value: 51}\n"


def written(folder, figures, *, header=HEADER):
    (folder / "mine.yaml").write_text(EXPERIMENT)
    (folder / "mine.published.yaml").write_text(header + figures)
    return folder / "mine.yaml"


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_figure_names_a_system_a_task_and_a_metric_that_are_there(name):
    figures = load_published(name)
    offers, tasks = offers_of(find_experiment(name)), load_tasks()
    for figure in figures:
        assert figure.system in {offer.system for offer in offers}
        assert figure.metric in (*tasks[figure.task].metrics, TRAIN_MINUTES)
        assert figure.source
        assert figure.encoder
    assert figures or read_published(name).notes


def test_every_table_has_its_figures_beside_it():
    tables = {f"smart_table{number}" for number in range(2, 8)} | {"rapt_table2", "rapt_table3", "robert_multitask"}
    assert all(any(name.startswith(table) for name in NAMES) for table in tables)


def test_figures_are_those_of_the_papers():
    """A few by hand from the papers, and RAPT's printed averages from the figures of its rows."""
    by_hand = {("bert", "snli", 0.001): 52.5, ("smart_mtdnn", "scitail", 0.1): 91.3, ("mtdnn", "snli", 1.0): 91.5}
    found = {(f.system, f.task, f.fraction): f.value for f in load_published("smart_table6_domain_adaptation")}
    assert by_hand.items() <= found.items()
    rows = load_published("rapt_table2")
    printed = {("standard", "validation"): 84.5, ("smart", "validation"): 84.9, ("rapt", "test"): 81.7}
    for (system, split), average in printed.items():
        values = [f.value for f in rows if (f.system, f.split) == (system, split)]
        assert len(values) == 12
        assert mean(values) == pytest.approx(average, abs=0.05)


def test_a_figure_takes_split_and_encoder_from_the_head_of_the_file_unless_it_says_otherwise(tmp_path):
    other = GOOD.replace("value: 51", "value: 52.5, split: test, encoder: roberta-large, note: a slip")
    first, second = load_published(written(tmp_path, GOOD + other))
    assert (first.split, first.encoder, first.value, first.note) == ("validation", "bert-base-uncased", 51.0, "")
    assert (second.split, second.encoder, second.note) == ("test", "roberta-large", "a slip")
    assert first.source == second.source == "a paper, table 1"


def test_a_size_s_systems_count_and_a_head_that_can_answer_another_task_may_be_asked_it(tmp_path):
    figures = (
        "  - {system: smart, task: rte, metric: accuracy, value: 71.2}\n"
        "  - {system: nli, task: mnli_mismatched, metric: accuracy, value: 84.4}\n"
        "  - {system: nli, task: mnli, metric: train_minutes, value: 220}\n"
    )
    assert [figure.system for figure in load_published(written(tmp_path, figures))] == ["smart", "nli", "nli"]


def test_an_experiment_without_such_a_file_has_no_figures(tmp_path):
    (tmp_path / "mine.yaml").write_text(EXPERIMENT)
    assert load_published(tmp_path / "mine.yaml") == []
    assert load_published("quickstart") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("bert", "bertt"), r":6: figures.1.system: unknown system 'bertt'. Did you mean 'bert'\?"),
        (("scitail", "scitale"), r":6: figures.1.task: unknown task 'scitale'. Did you mean 'scitail'\?"),
        (("scitail", "cola"), r":6: figures.1.task: 'bert' has unknown task 'cola'. Known: scitail"),
        (("accuracy", "acuracy"), r":6: figures.1.metric: unknown metric of 'scitail' 'acuracy'.* 'accuracy'\?"),
        (("accuracy", "f1"), r":6: figures.1.metric: unknown metric of 'scitail' 'f1'"),
        (("0.01", "0.02"), r":6: figures.1.fraction: 'bert' has for 'scitail' unknown fraction '0.02'.* 0.01, 1$"),
        ((" fraction: 0.01,", ""), r":6: figures.1.fraction: .*unknown fraction 'none'"),
        (("value: 51", "value: 510"), r":6: figures.1.value: .* within -100 and 100, got 510"),
        (("value: 51", "value: 5.1 %"), r":6: figures.1.value: .* got '5.1 %'"),
        (("value", "valeu"), r":6: figures.1.valeu: unknown key 'valeu'. Did you mean 'value'\?"),
        (("accuracy, fraction: 0.01, value: 51", "train_minutes, fraction: 0.01, value: 0"), r"minutes are above 0"),
        (("51", "51"), r":6: figures.1: the same figure as .*:5: figures.0; keep one"),
    ],
)
def test_a_fault_is_named_with_its_line_and_value(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        load_published(written(tmp_path, GOOD + GOOD.replace(*change)))


def test_all_faults_come_at_once(tmp_path):
    wrong = GOOD.replace("bert", "bertt") + GOOD.replace("scitail", "scitale").replace("51", "510")
    with pytest.raises(ConfigError) as caught:
        load_published(written(tmp_path, wrong, header=HEADER.replace("split: validation\n", "")))
    lines = str(caught.value).splitlines()
    assert [line.split("yaml:")[1].split(":")[0] for line in lines] == ["4", "4", "5", "5", "5"]


def test_a_file_without_figures_says_why(tmp_path):
    with pytest.raises(ConfigError, match=r":4: figures: no figures; give some, or say in notes why there are none"):
        load_published(written(tmp_path, "  []\n"))
    noted = HEADER.replace("figures:", "notes: [bar charts only]\nfigures:")
    assert load_published(written(tmp_path, "  []\n", header=noted)) == []


def test_a_run_keeps_the_figures_beside_its_own_experiment_and_refuses_faulty_ones(tmp_path):
    path = written(tmp_path, GOOD)
    kept = kept_published(load_experiment(path), load_tasks())
    assert Published.model_validate(json.loads(json.dumps(kept))) == read_published(path)
    written(tmp_path, GOOD.replace("bert", "brt"))
    with pytest.raises(ConfigError, match=r"unknown system 'brt'\. Did you mean 'bert'"):
        kept_published(load_experiment(path), load_tasks())
    (tmp_path / "mine.published.yaml").unlink()
    assert kept_published(load_experiment(path), load_tasks()) is None


def test_only_a_shipped_experiment_has_shipped_figures(tmp_path, monkeypatch):
    written(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path)
    assert shipped_published("mine") is None
    assert shipped_published("smart-table5-multitask") == read_published("smart_table5_multitask")
