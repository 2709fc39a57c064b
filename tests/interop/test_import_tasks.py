"""Official task definitions: each becomes one of ours that loads, reads the prepared files and builds its head."""

import pytest

from mtdnn.data.rows import Faults, without_faults
from mtdnn.data.sources import find_source
from mtdnn.data.units import read_units
from mtdnn.errors import ConfigError
from mtdnn.heads.base import build_head
from mtdnn.interop.import_tasks import import_tasks
from mtdnn.task_faults import task_faults
from mtdnn.tasks import TaskRegistry

OFFICIAL = """
cola:
  data_format: PremiseOnly
  dropout_p: 0.05
  enable_san: false
  metric_meta: [ACC, MCC]
  loss: CeCriterion
  kd_loss: MseCriterion
  adv_loss: SymKlCriterion
  n_class: 2
  task_type: Classification
mnli:
  data_format: PremiseAndOneHypothesis
  enable_san: true
  encoder_type: BERT
  labels: [contradiction, neutral, entailment]
  metric_meta: [ACC, F1, AUC]
  loss: CeCriterion
  kd_loss: MseCriterion
  n_class: 3
  split_names: [train, matched_dev, mismatched_dev, matched_test, mismatched_test]
  task_type: Classification
stsb:
  data_format: PremiseAndOneHypothesis
  enable_san: false
  metric_meta: [Pearson, Spearman]
  loss: MseCriterion
  adv_loss: MseCriterion
  n_class: 1
  task_type: Regression
qnnli:
  data_format: PremiseAndMultiHypothesis
  enable_san: false
  labels: [not_entailment, entailment]
  metric_meta: [ACC]
  loss: RankCeCriterion
  n_class: 1
  split_names: [train, dev]
  task_type: Ranking
squad:
  data_format: MRC
  metric_meta: [EmF1]
  n_class: 2
  task_type: Span
ner:
  data_format: Seqence
  metric_meta: [SeqEval]
  n_class: 12
  task_type: SeqenceLabeling
"""
PREPARED = {
    "cola_train": '0\t1\tThe "red cat sleeps.\n1\t0\tSleeps red the.\n',
    "mnli_train": "a\tentailment\tA red cat.\tA cat.\nb\tcontradiction\tA red cat.\tNo cat.\n",
    "mnli_matched_dev": "c\tneutral\tA cat.\tA red cat.\n",
    "mnli_matched_test": "d\tcontradiction\tA dog.\tA red dog.\n",
    "stsb_dev": "0\t2.5\tA cat.\tA dog.\n",
    "qnnli_train": "0\t17,9\tnot_entailment,entailment\tWho sleeps?\tA dog eats.\tThe cat sleeps.\n",
}


@pytest.fixture
def official(tmp_path):
    path = tmp_path / "glue_task_def.yml"
    path.write_text(OFFICIAL)
    return path


def write_yaml(tmp_path, text):
    path = tmp_path / "odd.yml"
    path.write_text(text)
    return path


def test_every_written_definition_loads_through_the_strict_registry_and_builds_its_head(official, tmp_path):
    paths, _ = import_tasks(official, folder=tmp_path / "defs")
    registry = TaskRegistry([tmp_path / "defs"])
    assert sorted(registry) == ["cola", "mnli", "qnnli", "stsb"] == sorted(path.stem for path in paths)
    for task in registry.values():
        assert task_faults(task) == []
        build_head(task, hidden_size=4)
    cola, mnli, stsb, qnnli = (registry[name] for name in ("cola", "mnli", "stsb", "qnnli"))
    assert (cola.kind, cola.labels, cola.metrics) == ("classification", ["0", "1"], ["accuracy", "matthews_corrcoef"])
    assert (cola.inputs.columns(), cola.head) == (["premise"], {"dropout": 0.05})
    assert mnli.label_names == ("contradiction", "neutral", "entailment")
    assert mnli.data.files.splits == {"train": "train", "validation": "matched_dev", "test": "matched_test"}
    assert mnli.metrics == ["accuracy", "f1_macro"]
    assert (stsb.kind, stsb.metrics, stsb.labels) == ("regression", ["pearson", "spearman"], [])
    assert (qnnli.kind, qnnli.metrics, qnnli.inputs.candidates) == ("ranking", ["hits@1"], "hypothesis")


def test_what_is_not_carried_over_is_told_with_its_tasks(official, tmp_path):
    _, told = import_tasks(official, folder=tmp_path / "defs")
    for line in (
        "squad: not written: task_type: Span has no head here; known: Classification, Regression, Ranking",
        "ner: not written: task_type: SeqenceLabeling has no head here; known: Classification, Regression, Ranking",
        "cola, mnli: kd_loss: MseCriterion left out: there is no distillation here",
        "mnli: enable_san: True left out: there is no answer module here, but a linear head",
        "mnli: encoder_type: BERT left out: the encoder is named in the experiment",
        "mnli: metric AUC left out: not here for classification; known: ACC, F1, MCC",
        "mnli: split 'mismatched_dev' left out; a definition with 'extends: mnli' can name it as its own",
        "mnli: split 'mismatched_test' left out; a definition with 'extends: mnli' can name it as its own",
        f"cola, mnli, stsb: stands before the shipped task of that name wherever {tmp_path / 'defs'} is used",
    ):
        assert line in told
    assert not any("CeCriterion" in line or "SymKl" in line for line in told)


def test_the_official_prepared_files_are_read_as_they_are(official, tmp_path):
    import_tasks(official, folder=tmp_path / "defs")
    registry = TaskRegistry([tmp_path / "defs"])
    (tmp_path / "canonical").mkdir()
    for name, text in PREPARED.items():
        (tmp_path / f"canonical/{name}.tsv").write_text(text)

    def units(task, split):
        source = find_source(registry[task], split, data_dir=tmp_path / "canonical")
        return read_units(source, build_head(registry[task]))[0]

    assert [(unit.uid, unit.texts, unit.targets) for unit in units("cola", "train")] == [
        ("0", [('The "red cat sleeps.', None)], [1]),
        ("1", [("Sleeps red the.", None)], [0]),
    ]
    assert [unit.targets for unit in units("mnli", "train")] == [[2], [0]]
    assert units("mnli", "validation")[0].texts == [("A cat.", "A red cat.")]
    assert units("mnli", "test")[0].targets == []
    assert units("stsb", "validation")[0].targets == [2.5]
    (group,) = units("qnnli", "train")
    assert group.texts == [("Who sleeps?", "A dog eats."), ("Who sleeps?", "The cat sleeps.")]
    assert group.targets == [0, 1]


def test_lines_of_another_shape_are_named(official, tmp_path):
    import_tasks(official, folder=tmp_path)
    (tmp_path / "qnnli_train.tsv").write_text("0\t1\n\n1\t7,8\t0,1\tWho?\tA dog.\n2\t7,8\t0,1\tWho?\tA.\tB.\tC.\n")
    faults = Faults()
    rows = find_source(TaskRegistry([tmp_path])["qnnli"], "train").rows(faults)
    assert list(without_faults(rows, faults)) == []
    path = tmp_path / "qnnli_train.tsv"
    assert faults.messages == [
        f"{path}:1: 2 columns; uid, label, premise and hypotheses are 3, 4, or 6 and more",
        f"{path}:3: 5 columns; uid, label, premise and hypotheses are 3, 4, or 6 and more",
        f"{path}:4: 2 ids and 2 labels for 3 hypotheses",
    ]


def test_every_fault_of_the_file_is_told_at_once_and_nothing_is_written(tmp_path):
    path = write_yaml(
        tmp_path,
        """
cola: {data_format: PremiseOnly}
../mnli: {data_format: PremiseOnly, task_type: Classification, n_class: 2}
rte: {data_format: PremiseAndOneHypothesis, task_type: Classification, n_class: 3, labels: [a, b]}
sst: {data_format: PremiseOnly, task_type: Classification, dropout_p: 1.5, metric_meta: ACC, split_names: train}
wnli: {data_format: PremiseOnly, task_type: Classification, n_class: two}
snli: {data_format: PremiseAndOneHypothesis, task_type: Classification, n_class: 2, labels: [a, a]}
fine: {data_format: PremiseOnly, task_type: Classification, n_class: 2}
""",
    )
    with pytest.raises(ConfigError) as caught:
        import_tasks(path, folder=tmp_path / "defs")
    for part in (
        "odd.yml:2: cola: key 'task_type' is missing",
        "odd.yml:3: ../mnli: expected a name of letters, digits and dashes",
        "odd.yml:4: rte.labels: n_class says 3, the labels are 2: a, b",
        "odd.yml:5: sst.dropout_p: expected a number from 0 to below 1, got 1.5",
        "odd.yml:5: sst.metric_meta: expected a list of metrics, got 'ACC'",
        "odd.yml:5: sst.split_names: expected names of splits, got 'train'",
        "odd.yml:6: wnli: expected n_class, a number, or labels, a list; got 'two' and None",
        "labels: ['a'] stand twice",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "defs").exists()


def test_a_file_without_a_task_that_can_be_had_here_is_refused(tmp_path):
    path = write_yaml(tmp_path, "squad: {data_format: MRC, task_type: Span}\n")
    with pytest.raises(ConfigError, match=r"no task of it has a head here\nsquad: not written: task_type: Span"):
        import_tasks(path, folder=tmp_path / "defs")
    with pytest.raises(ConfigError, match="expected tasks with their keys"):
        import_tasks(write_yaml(tmp_path, "[a, b]"), folder=tmp_path / "defs")


def test_a_metric_stands_in_where_none_is_left_and_other_formats_are_told(tmp_path):
    path = write_yaml(
        tmp_path,
        """
rank: {data_format: PremiseAndMultiHypothesis, task_type: Ranking, metric_meta: [F1]}
copa: {data_format: PremiseAndMultiHypothesis, task_type: Classification, n_class: 2}
clue: {data_format: CLUE_CLASSIFICATION, task_type: Classification, n_class: 2}
""",
    )
    (written,), told = import_tasks(path, folder=tmp_path / "defs")
    assert TaskRegistry([tmp_path / "defs"])["rank"].metrics == ["hits@1"]
    assert written.stem == "rank"
    assert "rank: no metric is left: hits@1 is in their place" in told
    assert any(line.startswith("copa: not written: task_type: Classification with data_format") for line in told)
    assert any(line.startswith("clue: not written: data_format: CLUE_CLASSIFICATION is not read") for line in told)


def test_the_verb_writes_tells_and_overwrites_only_when_told(official, tmp_path, mtdnn):
    out = tmp_path / "defs"
    code, shown, err = mtdnn("tasks", "import", official, "--out", out)
    assert code == 0, err
    assert "squad: not written: task_type: Span" in shown
    assert f"mtdnn check cola mnli stsb qnnli --task-defs {out} --data-dir DIR" in shown
    (out / "cola.yaml").write_text("mine")
    (out / "mnli.yaml").unlink()
    code, _, err = mtdnn("tasks", "import", official, "--out", out)
    assert code == 3
    assert f"{out / 'cola.yaml'} is there already; --overwrite replaces it" in err.replace("\n", "")
    assert (out / "cola.yaml").read_text() == "mine"
    assert not (out / "mnli.yaml").exists()
    assert mtdnn("tasks", "import", official, "--out", out, "--overwrite")[0] == 0
    assert sorted(TaskRegistry([out])) == ["cola", "mnli", "qnnli", "stsb"]
    assert mtdnn("tasks", "import", tmp_path / "none.yml", "--out", out)[0] == 3
