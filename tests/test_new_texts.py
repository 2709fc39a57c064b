"""New texts: every way to give them, and all that is wrong with them at once."""

import gzip
import io
import logging

import pytest
from support import NLI, STS, TAG

from mtdnn import new_texts
from mtdnn.data.formats import STDIN
from mtdnn.data.rows import Row
from mtdnn.errors import ConfigError, DataError
from mtdnn.new_texts import NewTexts, memory_row, text_faults, texts_of
from mtdnn.tasks import Inputs

BAD = "text_a,text_b\nred,cat\n,cat\nblue\nred, \ngreen,dog\n"


def rows_of(texts):
    return [row for window in texts.windows() for row in window]


def given(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("csv", "text_a,text_b\nred,cat\n"),
        ("tsv", "text_a\ttext_b\nred\tcat\n"),
        ("jsonl", '{"text_a": "red", "text_b": "cat"}\n'),
    ],
)
def test_a_file_and_standard_input_give_the_same_rows(tmp_path, monkeypatch, suffix, text):
    path = tmp_path / f"in.{suffix}"
    path.write_text(text)
    (of_file,) = rows_of(NewTexts.of_file(path, [NLI]))
    given(monkeypatch, text)
    (streamed,) = rows_of(NewTexts.of_file(STDIN, [NLI], format=suffix))
    assert (of_file.place, streamed.place) == (f"{path}:{text.count(chr(10))}", f"-:{text.count(chr(10))}")
    assert of_file.values == streamed.values == {"text_a": "red", "text_b": "cat"}


def test_standard_input_is_json_lines_unless_a_format_is_named(monkeypatch):
    given(monkeypatch, '{"a": "red", "b": "cat"}\n')
    assert rows_of(NewTexts.of_file(STDIN, [NLI])) == [Row("-:1", {"a": "red", "b": "cat"})]
    with pytest.raises(ConfigError, match="standard input is read as one of txt, csv, tsv, jsonl"):
        NewTexts.of_file(STDIN, [NLI], format="parquet")


def test_a_format_that_is_named_counts_more_than_the_file_s_name(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("a,b\nred,cat\n")
    assert rows_of(NewTexts.of_file(path, [NLI], format="csv")) == [Row(f"{path}:2", {"a": "red", "b": "cat"})]


def test_unreadable_rows_and_empty_texts_are_named_together_in_the_order_of_the_file(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(BAD)
    texts = NewTexts.of_file(path, [NLI, STS])
    for look in (texts.count, lambda: rows_of(texts)):
        with pytest.raises(DataError) as caught:
            look()
        assert str(caught.value).splitlines() == [
            f"{path}: faults: 3",
            f"{path}:3: column 'text_a': empty text ''",
            f"{path}:4: 1 columns where the header has 2: ['blue']",
            f"{path}:5: column 'text_b': empty text ' '",
        ]


def test_skipped_rows_are_told_and_the_others_keep_their_place(tmp_path, caplog):
    path = tmp_path / "in.csv"
    path.write_text(BAD)
    texts = NewTexts.of_file(path, [NLI], bad_rows="skip")
    assert texts.count() == 2
    with caplog.at_level(logging.WARNING, logger="mtdnn"):
        assert [row.place for row in rows_of(texts)] == [f"{path}:2", f"{path}:6"]
    (told,) = caplog.messages
    assert "bad rows are left out; faults: 3" in told
    assert all(f"{path}:{line}: " in told for line in (3, 4, 5))


def test_what_is_wrong_with_the_file_itself_is_not_skipped(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("text_a,text_a\nred,cat\n")
    with pytest.raises(DataError, match="stands twice in the header"):
        NewTexts.of_file(path, [NLI], bad_rows="skip").count()


def test_a_stream_stops_at_the_window_of_its_first_bad_row(monkeypatch):
    monkeypatch.setattr(new_texts, "WINDOW", 2)
    given(monkeypatch, "a,b\n1,1\n2,2\n3,3\n,4\n5,5\n6,6\n")
    seen = NewTexts.of_file(STDIN, [NLI], format="csv").windows()
    assert [row.values["a"] for row in next(seen)] == ["1", "2"]
    with pytest.raises(DataError, match="standard input: faults: 1\n-:5: column 'a': empty text ''"):
        next(seen)


def test_an_empty_text_that_two_tasks_read_is_told_once():
    assert [str(fault) for fault in text_faults({"a": "", "b": "x"}, [NLI, STS])] == ["column 'a': empty text ''"]


def test_a_row_of_memory_is_named_by_its_number_and_shortened():
    row = memory_row(7, ["x" * 500, "y", "z"], is_pair=True)
    assert row.place == "row 7"
    assert "expected a text, a pair of texts or a mapping, got ['xxx" in str(row.faults[0])
    assert len(str(row.faults[0])) < 200


def test_a_list_is_a_pair_where_a_task_reads_pairs_and_else_the_words_of_one_text():
    (pair,) = rows_of(NewTexts.of_memory([["Anna", "sells"]], [NLI]))
    (words,) = rows_of(NewTexts.of_memory([["Anna", "sells"]], [TAG]))
    assert (pair.values, words.values) == ({"text_a": "Anna", "text_b": "sells"}, {"text_a": ["Anna", "sells"]})
    with pytest.raises(DataError, match="row 1: expected a text or a mapping, got \\('Anna', 'sells'\\)"):
        rows_of(NewTexts.of_memory([("Anna", "sells")], [TAG]))


@pytest.mark.parametrize("rows", ["abc", {"a": "x"}])
def test_a_row_in_place_of_rows_is_refused(rows):
    with pytest.raises(DataError, match="rows: expected a list of rows"):
        NewTexts.of_memory(rows, [TAG])


def test_a_column_called_place_is_a_column_like_another(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"place": "in the garden"}\n')
    task = TAG.model_copy(update={"inputs": Inputs(text_a="place")})
    (row,) = rows_of(NewTexts.of_file(path, [task]))
    assert texts_of(row.values, task, place=row.place) == ("in the garden", None)


def test_a_compressed_text_file_is_read_and_a_strange_name_is_told_its_option(tmp_path):
    with gzip.open(tmp_path / "in.txt.gz", "wt") as file:
        file.write("red cat\n")
    assert [row.values for row in rows_of(NewTexts.of_file(tmp_path / "in.txt.gz", [TAG]))] == [{"text_a": "red cat"}]
    (tmp_path / "in.log").write_text("red cat\n")
    with pytest.raises(ConfigError, match=r"unknown file format 'log'.*; name it with --format"):
        NewTexts.of_file(tmp_path / "in.log", [TAG])
    with pytest.raises(ConfigError, match="--format xlsx: unknown file format 'xlsx'"):
        NewTexts.of_file(tmp_path / "in.log", [TAG], format="xlsx")
