"""Task definitions: the shipped ones, and what broken ones say."""

import pytest
from support import ROOT

from mtdnn.errors import ConfigError
from mtdnn.heads.base import build_head
from mtdnn.task_faults import task_faults
from mtdnn.tasks import TaskRegistry, load_tasks, read_task

PAPERS = """
cola sst2 mnli mnli_mismatched rte wnli qqp mrpc qnli qnli_rank stsb ax snli scitail
anli_r1 anli_r2 anli_r3 sst5 cfimdb quora sts sick sick_relatedness wikiqa trecqa
"""
RTE = (ROOT / "task_defs" / "rte.yaml").read_text()


def test_every_task_of_the_papers_is_shipped():
    assert set(PAPERS.split()) <= set(load_tasks())


@pytest.mark.parametrize("name", sorted(load_tasks()))
def test_a_shipped_task_builds_its_head_and_knows_its_metrics(name):
    task = load_tasks()[name]
    assert task_faults(task) == []
    build_head(task, hidden_size=4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("metrics:", "metric:", r"rte\.yaml:\d+: metric: unknown key 'metric'\. Did you mean 'metrics'\?"),
        ("target: label\n", "", r"rte\.yaml:?\d*: key 'target' is missing"),
        ("text_a:", "premise:", r"rte\.yaml:\d+: inputs\.premise: unknown key"),
        ("kind: classification", "kind: 3", r"rte\.yaml:\d+: kind: expected text, got 3; put quotes"),
        ("version: 1", "version: one", r"rte\.yaml:\d+: version: .*got 'one'"),
        ("entailment, not_entailment", "entailment, entailment", r"labels: \['entailment'\] stand twice"),
        ("metrics: [accuracy]", "metrics: []", r"rte\.yaml:\d+: metrics: .*at least 1"),
    ],
)
def test_a_broken_file_says_what_to_change(tmp_path, old, new, message):
    assert old in RTE
    (tmp_path / "rte.yaml").write_text(RTE.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_task(tmp_path / "rte.yaml")


def test_all_faults_of_all_files_are_reported_together(tmp_path):
    for name in ("rte", "cola"):
        (tmp_path / f"{name}.yaml").write_text(RTE.replace("metrics:", "metric:").replace("target:", "targets:"))
    with pytest.raises(ConfigError) as caught:
        TaskRegistry([tmp_path])
    for part in ("cola.yaml", "rte.yaml", "unknown key 'metric'", "unknown key 'targets'", "'target' is missing"):
        assert part in str(caught.value)


def test_a_variant_says_only_its_difference(tmp_path):
    (tmp_path / "rte.yaml").write_text(RTE)
    (tmp_path / "rte_b.yaml").write_text("extends: rte\nhead: {dropout: 0.5}\ncitation: null\n")
    task = read_task(tmp_path / "rte_b.yaml")
    assert task.name == "rte_b"
    assert task.head["dropout"] == 0.5
    assert task.citation == ""
    assert task.labels == read_task(tmp_path / "rte.yaml").labels


def test_a_variant_of_itself_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b\n")
    (tmp_path / "b.yaml").write_text("extends: a\n")
    with pytest.raises(ConfigError, match="'a' extends itself by way of a -> b"):
        read_task(tmp_path / "a.yaml")


def test_an_unknown_metric_and_kind_get_suggestions():
    task = load_tasks()["rte"]
    wrong = task.model_copy(update={"metrics": ["acuracy"], "kind": "clasification"})
    faults = "\n".join(task_faults(wrong))
    assert "unknown metric 'acuracy'. Did you mean 'accuracy'?" in faults
    assert "unknown head 'clasification'. Did you mean 'classification'?" in faults


def test_faults_of_a_definition_s_kind_metrics_and_head_are_told_with_their_lines(tmp_path):
    path = tmp_path / "mine.yaml"

    def faults_of(**changes):
        """With each line that is changed, its number and its fault."""
        text = RTE
        for key, value in changes.items():
            (old,) = (line for line in RTE.splitlines() if line.startswith(f"{key}:"))
            text = text.replace(old, f"{key}: {value}")
        path.write_text(text)
        return task_faults(read_task(path)), {line.split(":")[0]: i for i, line in enumerate(text.splitlines(), 1)}

    (fault,), lines = faults_of(kind="clasification")
    assert fault.startswith(f"{path}:{lines['kind']}: kind: unknown head 'clasification'. Did you mean")
    faults, lines = faults_of(metrics="\n  - accuracy\n  - acuracy", head="\n  droput: 0.2")
    assert faults[0].startswith(f"{path}:{lines['head']}: head: unknown classification option 'droput'")
    assert faults[1].startswith(f"{path}:{lines['  - acuracy']}: metrics.1: unknown metric 'acuracy'")


def test_a_misspelled_head_option_gets_a_suggestion():
    task = load_tasks()["rte"].model_copy(update={"head": {"droput": 0.1}})
    with pytest.raises(ConfigError, match=r"unknown classification option 'droput'. Did you mean 'dropout'\?"):
        build_head(task)
