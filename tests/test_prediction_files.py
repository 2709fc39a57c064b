"""Predictions written: what is read back is what was said."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtdnn.errors import ConfigError, DataError, StorageError
from mtdnn.prediction_files import check_name, csv_lines, json_lines, write_predictions

LABELS = st.text(min_size=1).filter(lambda text: "\r" not in text)
PREDICTIONS = st.tuples(LABELS, st.floats(0, 1), st.lists(st.integers(), max_size=3))


@given(st.lists(PREDICTIONS, min_size=1, max_size=5))
def test_csv_is_read_back_as_it_was_for_any_label(found):
    rows = [{"nli": {"label": label, "probabilities": {"yes": share}, "spans": spans}} for label, share, spans in found]
    back = list(csv.DictReader(io.StringIO("".join(csv_lines(rows)), newline="")))
    assert [
        (row["nli.label"], float(row["nli.probabilities.yes"]), json.loads(row["nli.spans"])) for row in back
    ] == found


@given(st.lists(st.dictionaries(st.text(), st.text()), max_size=5))
def test_json_lines_are_read_back_as_they_were(rows):
    assert [json.loads(line) for line in json_lines(rows)] == rows


def test_csv_of_no_rows_is_empty_and_a_column_too_many_is_told():
    assert list(csv_lines([])) == []
    lines = csv_lines([{"a": {"label": "x"}}, {"a": {}}, {"a": {"label": "x", "score": 1}}])
    assert [next(lines) for _ in range(3)] == ["a.label\n", "x\n", '""\n']
    with pytest.raises(DataError, match=r"row 3: \['a.score'\] are not in the first row"):
        next(lines)


def test_a_name_without_a_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"Did you mean '.jsonl'\?"):
        check_name(tmp_path / "x.json")


def test_a_file_is_whole_or_not_there(tmp_path):
    def rows():
        yield {"a": 1}
        raise DataError("line 2")

    with pytest.raises(DataError, match="line 2"):
        write_predictions(tmp_path / "x.jsonl", rows())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match="cannot be written"):
        write_predictions(tmp_path / "none" / "x.csv", [{"a": 1}])
