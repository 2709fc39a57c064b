"""The zip for the GLUE server, from made-up runs of tiny random models on made-up test rows."""

import json
import zipfile
from dataclasses import replace

import pytest
import torch
import yaml
from support import REAL_DATA

from mtdnn import new_texts
from mtdnn import predictor as predictor_module
from mtdnn.errors import ConfigError, DataError, NonFiniteError
from mtdnn.interop import glue_submission
from mtdnn.interop.glue_files import GLUE_FILES
from mtdnn.interop.glue_submission import check_rows, find_rows, submit, words_of
from mtdnn.interop.run_models import read_trained
from mtdnn.predictor import Predictor
from mtdnn.tasks import load_tasks
from mtdnn.testing.encoders import tiny_model, tiny_tokenizer

ROWS = 6
SMALL = [replace(file, rows=ROWS) for file in GLUE_FILES]
HEADS = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"]
WORDS = ["river", "stone", "bird", "cloud", "night", "garden"]
SERVER = {  # our label -> the server's, by hand from the GLUE site's sample submission
    "cola": {"unacceptable": "0", "acceptable": "1"},
    "sst2": {"negative": "0", "positive": "1"},
    "mrpc": {"not_equivalent": "0", "equivalent": "1"},
    "qqp": {"not_duplicate": "0", "duplicate": "1"},
    "wnli": {"not_entailment": "0", "entailment": "1"},
}


def texts_of(task, number):
    """Rows of very different lengths, so that sorting by length moves them."""
    word = WORDS[number % len(WORDS)]
    return f"{task} {word} " * (1 + 3 * (number % 3)), f"the {word} sleeps " * (1 + number % 2)


def write_data(folder, *, registry, rows=ROWS):
    """Definitions of all eleven tasks with the shipped labels and columns, and a test file of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in GLUE_FILES:
        task = registry[file.task]
        layout = {"path": f"{file.task}-{{split}}.jsonl", "splits": {"test": "test"}, "uid": "uid"}
        content = task.model_dump(mode="json", exclude={"name", "folder"}, exclude_none=True)
        (folder / f"{file.task}.yaml").write_text(yaml.safe_dump({**content, "data": {"files": layout}}))
        lines = []
        for number in range(rows):
            texts = dict(zip(task.inputs.columns(), texts_of(file.task, number), strict=False))
            lines.append(json.dumps({"uid": f"{file.task}-test-{number}", **texts, "label": "nobody reads this"}))
        (folder / f"{file.task}-test.jsonl").write_text("\n".join(lines) + "\n")


def write_cell(run, path, tasks, *, kind, seed=1, fraction=None, model=True, change=None):
    """A finished cell as ``mtdnn run`` leaves it, its model random."""
    system, stage = path.split("/")[:2]
    folder = run / path
    folder.mkdir(parents=True)
    inputs = {"stage": {"kind": kind}, "upstream": None}
    names = [task.name for task in tasks]
    result = {"system": system, "stage": stage, "tasks": names, "fraction": fraction, "seed": seed, "inputs": inputs}
    (folder / "results.json").write_text(json.dumps(result))
    if model:
        made = tiny_model(tasks, seed=len(path) + seed)
        with torch.no_grad():
            for task in tasks:
                made.head(task.name).output.weight.mul_(50)  # so that answers differ from row to row
            if change is not None:
                change(made)
        made.save_pretrained(folder / "model")
        tiny_tokenizer().save_pretrained(folder / "model")
    return folder


@pytest.fixture(scope="module")
def shipped_tasks():
    return load_tasks()


@pytest.fixture
def data(tmp_path, shipped_tasks):
    write_data(tmp_path / "tasks", registry=shipped_tasks)
    return tmp_path / "tasks"


@pytest.fixture
def registry(data):
    return load_tasks(data)


@pytest.fixture(scope="module")
def joint_run(tmp_path_factory, shipped_tasks):
    """A run of one system whose joint stage holds all nine heads."""
    run = tmp_path_factory.mktemp("runs") / "glue"
    write_cell(run, "mtdnn/joint/joint/full/1", [shipped_tasks[name] for name in HEADS], kind="joint")
    return run


@pytest.fixture
def run(joint_run, tmp_path):
    """The same run, in a folder of its own that a test may add to."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "mtdnn").mkdir()
    (folder / "mtdnn/joint").symlink_to(joint_run / "mtdnn/joint")
    return folder


def read_zip(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode().split("\n") for name in archive.namelist()}


def own_answers(model, task, data, registry, file):
    """What ``mtdnn predict`` says of the same rows, in the server's words."""
    found = Predictor.load(model)
    rows = [json.loads(line) for line in (data / f"{file}-test.jsonl").read_text().splitlines()]
    columns = registry[file].inputs.columns()
    named = [dict(zip(("text_a", "text_b"), (row[column] for column in columns), strict=False)) for row in rows]
    answers = [each[task] for each in found.predict(named, [found.task(task)])]
    if task == "stsb":
        return [f"{min(5.0, max(0.0, each['score'])):.3f}" for each in answers]
    return [SERVER.get(task, {}).get(each["label"], each["label"]) for each in answers]


def test_a_whole_run_becomes_eleven_files_whose_every_answer_is_the_model_s(run, data, registry, tmp_path):
    written = submit(run, tmp_path / "out/s.zip", registry=registry, files=SMALL)
    content = read_zip(tmp_path / "out/s.zip")
    names = ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "AX"]
    assert set(content) == {f"{name}.tsv" for name in names}
    assert [each.name for each in written] == [f"{name}.tsv" for name in names]
    model = run / "mtdnn/joint/joint/full/1/model"
    distinct = set()
    for file in SMALL:
        header, *lines, end = content[file.name]
        assert (header, end) == ("index\tprediction", "")
        indices, answers = zip(*(line.split("\t") for line in lines), strict=True)
        assert list(indices) == [str(index) for index in range(ROWS)]
        head = "mnli" if file.task in ("mnli_mismatched", "ax") else file.task
        assert list(answers) == own_answers(model, head, data, registry, file.task)
        distinct.add(len(set(answers)))
    assert max(distinct) > 1


def test_a_task_s_own_model_answers_before_the_joint_one_and_mnli_s_answers_three_files(run, data, registry, tmp_path):
    own = write_cell(run, "mtdnn/finetune/mnli/full/1", [registry["mnli"]], kind="finetune")
    written = {each.name: each for each in submit(run, tmp_path / "s.zip", registry=registry, files=SMALL)}
    content = read_zip(tmp_path / "s.zip")
    for name, task in (("MNLI-m.tsv", "mnli"), ("MNLI-mm.tsv", "mnli_mismatched"), ("AX.tsv", "ax")):
        assert written[name].origin == str(own / "model")
        answers = [line.split("\t")[1] for line in content[name][1:-1]]
        assert answers == own_answers(own / "model", "mnli", data, registry, task)
    assert "joint" in written["RTE.tsv"].origin


def test_everything_that_is_missing_is_named_at_once_and_nothing_is_written(data, registry, tmp_path):
    run = tmp_path / "poor"
    heads = [registry[name] for name in HEADS if name not in ("qqp", "mnli")]
    write_cell(run, "mtdnn/joint/joint/full/1", heads, kind="joint")
    (data / "ax-test.jsonl").unlink()
    lines = (data / "cola-test.jsonl").read_text().splitlines()
    (data / "cola-test.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    lines = (data / "rte-test.jsonl").read_text().splitlines()
    (data / "rte-test.jsonl").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    (data / "qnli-test.jsonl").write_text((data / "qnli-test.jsonl").read_text().replace('"sentence"', '"answer"'))
    path = data / "sst2.yaml"
    path.write_text(path.read_text().replace("test: test", "train: train"))
    with pytest.raises(DataError) as raised:
        submit(run, tmp_path / "s.zip", registry=load_tasks(data), files=SMALL)
    message = str(raised.value)
    assert "QQP.tsv: no model of task 'qqp'; no cell trained it" in message
    assert "MNLI-m.tsv, MNLI-mm.tsv, AX.tsv: no model of task 'mnli'" in message
    assert "AX.tsv: no test rows of task 'ax'. files: task 'ax': no file" in message
    assert "test: 5 rows where GLUE has 6" in message
    assert "rte-test.jsonl:1: column 'uid': rte-test-1 stands in place 0 of the official order" in message
    assert "qnli-test.jsonl:6: column 'sentence': expected text, got None" in message
    assert "SST-2.tsv: no test rows of task 'sst2'. files: task 'sst2': unknown split 'test'" in message
    assert not any(name in message for name in ("WNLI.tsv", "MRPC.tsv", "STS-B.tsv"))
    assert not list(tmp_path.glob("*.zip"))


def test_each_doubt_about_the_model_names_the_option_that_decides(run, registry, tmp_path):
    def refusal(**options):
        with pytest.raises(ConfigError) as raised:
            submit(run, tmp_path / "s.zip", registry=registry, files=SMALL, **options)
        return str(raised.value)

    write_cell(run, "mtdnn/finetune/rte/full/1", [registry["rte"]], kind="finetune")
    write_cell(run, "mtdnn/finetune/rte/full/2", [registry["rte"]], kind="finetune", seed=2)
    assert "RTE.tsv: models with the seeds 1, 2; say which with --seed" in refusal()
    assert "RTE.tsv: --seed 7 is not among them: models with the seeds 1, 2" in refusal(seed=7)
    write_cell(run, "mtdnn/adapt/cola/1/1", [registry["cola"]], kind="adapt", fraction=1.0)
    write_cell(run, "mtdnn/finetune/cola/full/1", [registry["cola"]], kind="finetune")
    both = refusal()
    assert "CoLA.tsv: models of the stages adapt, finetune; say with --stage" in both
    assert "RTE.tsv: models with the seeds" in both
    assert "Did you mean 'finetune'" in refusal(stages=["finetun"])
    write_cell(run, "bert/finetune/cola/full/1", [registry["cola"]], kind="finetune")
    assert refusal() == "the run has the systems bert, mtdnn; say which with --system"
    assert "Did you mean 'mtdnn'" in refusal(system="mtdn")


def test_a_seed_chooses_among_several_and_a_joint_stage_trained_once_serves_every_seed(run, registry, tmp_path):
    for seed in (1, 2):
        for task in ("rte", "cola"):
            write_cell(run, f"mtdnn/finetune/{task}/full/{seed}", [registry[task]], kind="finetune", seed=seed)
    written = {each.name: each for each in submit(run, tmp_path / "s.zip", registry=registry, files=SMALL, seed=2)}
    assert written["RTE.tsv"].origin.endswith("finetune/rte/full/2/model")
    assert written["CoLA.tsv"].origin.endswith("finetune/cola/full/2/model")
    assert written["QQP.tsv"].origin.endswith("joint/joint/full/1/model")
    only_joint = submit(run, tmp_path / "s.zip", registry=registry, files=SMALL, stages=["joint"])
    assert {each.origin for each in only_joint} == {str(run / "mtdnn/joint/joint/full/1/model")}


def test_models_on_a_fraction_or_without_weights_never_answer(run, registry, tmp_path):
    write_cell(run, "mtdnn/adapt/rte/0.1/1", [registry["rte"]], kind="adapt", fraction=0.1)
    write_cell(run, "mtdnn/adapt/cola/1/1", [registry["cola"]], kind="adapt", fraction=1.0, model=False)
    submit(run, tmp_path / "s.zip", registry=registry, files=SMALL)
    with pytest.raises(DataError, match=r"none on all of the data was kept in .*rte/0\.1/1; save_model: true keeps"):
        submit(run, tmp_path / "s.zip", registry=registry, files=SMALL, stages=["adapt"])


def test_a_cell_that_shares_another_s_folder_is_found_by_the_run_s_overview(run, registry, tmp_path):
    write_cell(run, "smart/finetune/rte/full/1", [registry["rte"]], kind="finetune")
    joint = json.loads((run / "mtdnn/joint/joint/full/1/results.json").read_text())
    shared = {**joint, "system": "smart", "same_as": "mtdnn/joint/joint/full/1"}
    (run / "results.json").write_text(json.dumps([joint, shared]))
    written = {
        each.name: each for each in submit(run, tmp_path / "s.zip", registry=registry, files=SMALL, system="smart")
    }
    assert written["RTE.tsv"].origin == str(run / "smart/finetune/rte/full/1/model")
    assert written["CoLA.tsv"].origin == str(run / "mtdnn/joint/joint/full/1/model")


def test_wnli_s_majority_answer_stands_in_only_when_asked_for_and_says_so(data, registry, tmp_path):
    run = tmp_path / "nine"
    write_cell(run, "mtdnn/joint/joint/full/1", [registry[name] for name in HEADS if name != "wnli"], kind="joint")
    (data / "wnli-test.jsonl").unlink()
    with pytest.raises(DataError, match=r"WNLI.tsv: no model of task 'wnli'"):
        submit(run, tmp_path / "s.zip", registry=registry, files=SMALL)
    written = submit(run, tmp_path / "s.zip", registry=registry, files=SMALL, majority=True)
    assert read_zip(tmp_path / "s.zip")["WNLI.tsv"][1:-1] == [f"{index}\t0" for index in range(ROWS)]
    (wnli,) = [each for each in written if each.name == "WNLI.tsv"]
    assert wnli.origin == "no model: the majority answer 0 in every row"


@pytest.mark.parametrize(("bias", "expected"), [(40.0, "5.000"), (-40.0, "0.000"), (2.34567, "2.346")])
def test_scores_are_moved_into_the_range_and_have_three_decimals(run, registry, tmp_path, bias, expected):
    def constant(model):
        model.head("stsb").output.weight.zero_()
        model.head("stsb").output.bias.fill_(bias)

    write_cell(run, "mtdnn/finetune/stsb/full/1", [registry["stsb"]], kind="finetune", change=constant)
    submit(run, tmp_path / "s.zip", registry=registry, files=SMALL)
    lines = read_zip(tmp_path / "s.zip")["STS-B.tsv"][1:-1]
    assert lines == [f"{index}\t{expected}" for index in range(ROWS)]


def test_answers_that_are_not_finite_leave_an_earlier_zip_as_it_was(run, registry, tmp_path):
    def broken(model):
        model.head("sst2").output.bias.fill_(float("nan"))

    write_cell(run, "mtdnn/finetune/sst2/full/1", [registry["sst2"]], kind="finetune", change=broken)
    (tmp_path / "s.zip").write_text("earlier")
    with pytest.raises(NonFiniteError, match="answers on 'sst2' are not finite"):
        submit(run, tmp_path / "s.zip", registry=registry, files=SMALL)
    assert (tmp_path / "s.zip").read_text() == "earlier"
    assert not list(tmp_path.glob(".staged*"))


def test_the_same_run_gives_the_same_bytes(run, registry, tmp_path):
    for name in ("a.zip", "b.zip"):
        submit(run, tmp_path / name, registry=registry, files=SMALL)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_labels_are_matched_by_name_or_alias_in_any_order_and_others_are_refused(registry, tmp_path):
    files = {file.task: file for file in SMALL}

    def words(task, labels):
        changed = registry[task].model_copy(update={"labels": labels})
        folder = tmp_path / f"{task}-{len(list(tmp_path.iterdir()))}"
        write_cell(folder, f"s/finetune/{task}/full/1", [changed], kind="finetune")
        return words_of(files[task], read_trained(folder)[0])

    assert words("rte", ["not_entailment", "entailment"]) == {
        "not_entailment": "not_entailment",
        "entailment": "entailment",
    }
    assert words("cola", [{"bad": ["0"]}, {"good": ["1"]}]) == {"bad": "0", "good": "1"}
    assert words("wnli", [{"entailment": ["0"]}, {"not_entailment": ["1"]}]) == {
        "entailment": "1",
        "not_entailment": "0",
    }
    with pytest.raises(ConfigError, match="labels are yes, no; GLUE wants the labels entailment, not_entailment"):
        words("rte", ["yes", "no"])
    with pytest.raises(ConfigError, match="GLUE wants the labels entailment, neutral, contradiction"):
        words("mnli", ["entailment", "neutral"])


def test_scores_of_another_range_and_heads_of_another_kind_are_refused(run, registry, tmp_path):
    narrow = registry["stsb"].model_copy(update={"range": [0.0, 1.0]})
    write_cell(run, "mtdnn/finetune/stsb/full/1", [narrow], kind="finetune")
    with pytest.raises(ConfigError, match=r"STS-B.tsv: .*scores are in \[0.0, 1.0\]; GLUE wants \[0.0, 5.0\]"):
        submit(run, tmp_path / "s.zip", registry=registry, files=SMALL)
    part = glue_submission.Part(SMALL[0], model=run)
    with pytest.raises(ConfigError, match="its head for 'cola' gives no label"):
        glue_submission.answer_of({"score": 1.0}, part)


def test_an_empty_text_of_the_official_file_is_predicted_and_told(run, data, registry, tmp_path):
    path = data / "qqp-test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[3]["question2"] = ""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    written = submit(run, tmp_path / "s.zip", registry=registry, files=SMALL)
    assert {each.name: each.empty for each in written if each.empty} == {"QQP.tsv": 1}
    assert len(read_zip(tmp_path / "s.zip")["QQP.tsv"]) == ROWS + 2


def test_rows_without_numbers_of_their_own_are_numbered_by_their_place(run, data, registry, tmp_path):
    path = data / "mrpc-test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    pairs = [{**row, "uid": f"mrpc-108{number}-9{number}"} for number, row in enumerate(reversed(rows))]
    path.write_text("".join(json.dumps(row) + "\n" for row in pairs))
    submit(run, tmp_path / "s.zip", registry=registry, files=SMALL)
    lines = read_zip(tmp_path / "s.zip")["MRPC.tsv"][1:-1]
    assert [line.split("\t")[0] for line in lines] == [str(index) for index in range(ROWS)]


def test_any_number_of_texts_is_predicted_window_by_window_in_order(run, registry, monkeypatch):
    model = Predictor.load(run / "mtdnn/joint/joint/full/1/model")
    texts = [texts_of("x", number) for number in range(11)]
    rows = [{"text_a": a, "text_b": b} for a, b in texts]
    expected = [each["rte"]["probabilities"] for each in model.predict(rows, [model.task("rte")])]
    monkeypatch.setattr(new_texts, "WINDOW", 4)
    monkeypatch.setattr(predictor_module, "BATCH_TOKENS", {"cpu": 30})
    taken = []

    def stream():
        for each in texts:
            taken.append(each)
            yield each

    predictions = model.predict_texts(stream(), model.task("rte"))
    found = [next(predictions)["probabilities"]]
    assert len(taken) == 4  # no more than a window is held
    found += [each["probabilities"] for each in predictions]
    assert [pytest.approx(each, abs=1e-5) for each in expected] == found


def test_a_folder_without_a_run_and_an_out_that_is_a_folder_are_refused(run, registry, tmp_path):
    with pytest.raises(DataError, match="no finished cells there; give the folder that mtdnn run --out wrote"):
        submit(tmp_path / "nowhere", tmp_path / "s.zip", registry=registry, files=SMALL)
    with pytest.raises(ConfigError, match="is a folder; give a file's name"):
        submit(run, tmp_path, registry=registry, files=SMALL)


def test_every_shipped_definition_s_labels_are_the_server_s():
    registry = load_tasks()
    for file in GLUE_FILES:
        words = [glue_submission.server_word(names, file.answers) for names in registry[file.asked].label_words]
        assert sorted(words) == sorted(names[0] for names in file.answers), file.name
        assert registry[file.task].data.hub.path == "nyu-mll/glue"
        assert "test" in registry[file.task].data.hub.splits


COMPLETE = ["cola", "mrpc", "stsb", "qnli", "rte", "wnli", "ax"]


@pytest.mark.realdata
@pytest.mark.parametrize("task", COMPLETE)
def test_a_complete_real_test_split_has_the_official_rows_in_the_official_order(task, shipped_tasks):
    (file,) = [file for file in GLUE_FILES if file.task == task]
    assert check_rows(file, find_rows(file, shipped_tasks, REAL_DATA)) == 0


@pytest.mark.realdata
def test_real_data_without_every_test_split_is_refused_naming_each_that_is_not_there(joint_run, tmp_path, monkeypatch):
    def offline(layout, split):
        raise DataError(f"hub data set '{layout.path}' ({layout.name}) cannot be loaded")

    monkeypatch.setattr("mtdnn.data.sources.load_hub", offline)
    with pytest.raises(DataError) as raised:
        submit(joint_run, tmp_path / "s.zip", registry=load_tasks(), data_dir=REAL_DATA)
    message = str(raised.value)
    assert "SST-2.tsv: no test rows of task 'sst2'. files: task 'sst2': unknown split 'test'" in message
    absent = {file.name for file in GLUE_FILES if file.task not in COMPLETE}
    assert {file.name for file in GLUE_FILES if file.name in message} == absent
    assert "hub: hub data set 'nyu-mll/glue' (mnli) cannot be loaded" in message
