"""``mtdnn predict`` as a user and a pipe see it."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import MTDNN, NLI, STS, own_process

from mtdnn.testing.encoders import tiny_model, tiny_tokenizer

ROWS = [("red cat", "cat"), ("a dog sleeps", "red"), ("blue", "green dog"), ("old", "old"), ("small bird", "big")]
STREAM = "".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in ROWS)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a model with two tasks, and of one with a single task."""
    folder = tmp_path_factory.mktemp("models")
    for name, tasks in (("both", [NLI, STS]), ("one", [NLI])):
        tiny_model(tasks, max_length=16).save_pretrained(folder / name)
        tiny_tokenizer().save_pretrained(folder / name)
    return folder


@pytest.fixture
def given(monkeypatch):
    """What standard input has."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_and_standard_input_in_any_format_get_the_same_answers(models, mtdnn, tmp_path, given):
    path = tmp_path / "in.jsonl"
    path.write_text(STREAM)
    code, expected, _ = mtdnn("predict", models / "one", path)
    assert (code, len(lines(expected))) == (0, len(ROWS))
    given(STREAM)
    assert mtdnn("predict", models / "one", "-")[:2] == (0, expected)
    for format, mark in (("csv", ","), ("tsv", "\t")):
        given("".join(mark.join(row) + "\n" for row in [("text_a", "text_b"), *ROWS]))
        assert mtdnn("predict", models / "one", "-", "--format", format)[:2] == (0, expected)


def test_several_tasks_must_be_named_and_all_names_them(models, mtdnn, given):
    code, _, err = mtdnn("predict", models / "both", "-")
    assert (code, "the model has several: nli, sts; name some of them, or all" in err) == (3, True)
    given(STREAM)
    code, out, _ = mtdnn("predict", models / "both", "-", "--task", "all")
    assert [set(row) for row in lines(out)] == [{"nli", "sts"}] * len(ROWS)
    given(STREAM)
    assert mtdnn("predict", models / "both", "-", "--task", "nli, sts")[1] == out


def test_the_name_of_the_output_says_its_format(models, mtdnn, tmp_path, given):
    given(STREAM)
    _, out, _ = mtdnn("predict", models / "both", "-", "--task", "all")
    for name in ("x.jsonl", "x.csv"):
        given(STREAM)
        code, told, _ = mtdnn("predict", models / "both", "-", "--task", "all", "--out", tmp_path / name)
        assert (code, told) == (0, "")
    assert (tmp_path / "x.jsonl").read_text() == out
    with (tmp_path / "x.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    for row, one in zip(lines(out), cells, strict=True):
        assert one["nli.label"] == row["nli"]["label"]
        assert float(one["nli.probabilities.maybe"]) == row["nli"]["probabilities"]["maybe"]
        assert float(one["sts.score"]) == row["sts"]["score"]
    code, _, err = mtdnn("predict", models / "both", "-", "--task", "all", "--out", tmp_path / "x.txt")
    assert (code, "unknown format '.txt'" in err) == (3, True)


def test_bad_rows_are_named_in_one_go_or_left_out(models, mtdnn, tmp_path, caplog):
    path = tmp_path / "in.csv"
    path.write_text("a,b\nred,cat\n,cat\nblue\nold,big\n")
    code, out, err = mtdnn("predict", models / "one", path)
    assert (code, out) == (4, "")
    assert "faults: 2" in err
    assert f"{path}:3: column 'a': empty text ''" in err
    assert f"{path}:4: 1 columns where the header has 2" in err
    code, out, _ = mtdnn("predict", models / "one", path, "--bad-rows", "skip")
    assert code == 0
    assert [row["place"] for row in lines(out)] == [f"{path}:2", f"{path}:5"]
    assert "bad rows are left out; faults: 2" in caplog.text


def test_a_window_is_answered_while_more_is_to_come(models):
    code = "import mtdnn.new_texts as n; n.WINDOW = 2; from mtdnn.cli.main import main; main()"
    command = [sys.executable, "-c", code, "predict", str(models / "one"), "-"]
    with subprocess.Popen(command, env=own_process(), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for _ in range(2):
            process.stdin.write(b'{"a": "red", "b": "cat"}\n{"a": "dog", "b": "cat"}\n')
            process.stdin.flush()
            first, second = (json.loads(process.stdout.readline()) for _ in range(2))
            assert set(first["nli"]) == {"label", "probabilities"} == set(second["nli"])
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(300) == 0


@pytest.mark.parametrize(("sink", "code"), [("head -c 10", 1), ("cat > /dev/null", 0)])
def test_who_reads_may_stop_early_without_a_word(models, tmp_path, sink, code):
    (tmp_path / "in.jsonl").write_text(STREAM * 2000)
    command = 'python=$0; "$python" -c "$1" predict "$2" in.jsonl | ' + sink + " > /dev/null; exit ${PIPESTATUS[0]}"
    done = subprocess.run(
        ["bash", "-c", command, *MTDNN[::2], str(models / "one")],
        env=own_process(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert not list(tmp_path.glob("mtdnn-crash-*"))


def test_a_full_disk_behind_standard_output_is_told(models, tmp_path):
    (tmp_path / "in.jsonl").write_text(STREAM)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MTDNN, "predict", str(models / "one"), str(tmp_path / "in.jsonl")],
            env=own_process(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=300,
        )
    assert done.returncode == 10
    assert "error: standard output: cannot be written" in done.stderr
