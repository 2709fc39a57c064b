"""Files in, rows out: every bad row named, nothing merged, nothing lost."""

import gzip
import json
import lzma

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import NLI, RANK

from mtdnn.data.sources import find_source
from mtdnn.data.units import read_units
from mtdnn.errors import DataError
from mtdnn.heads.base import build_head

GOOD = [{"a": "one two", "b": "NA", "label": "yes"}, {"a": 'say "x', "b": "null", "label": "no"}]
# Lines are the format's unit: texts without line ends; TSV has no tabs either.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r\n"), min_size=1).filter(str.strip)


def task_at(folder, name, *, task=NLI, **layout):
    files = {"path": name, "splits": {"train": "train"}, **layout}
    return type(task).model_validate(
        {**task.model_dump(exclude={"folder"}), "data": {"files": files}, "folder": folder}
    )


def read(task, split="train"):
    return read_units(find_source(task, split), build_head(task))


def texts(task):
    return [unit.texts[0] for unit in read(task)[0]]


def lines_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def table_of(rows, separator, quote=False):
    def cell(value):
        return '"' + value.replace('"', '""') + '"' if quote else value

    return (
        "\n".join(separator.join(map(cell, each)) for each in [list(rows[0]), *(row.values() for row in rows)]) + "\n"
    )


def faults_of(task):
    with pytest.raises(DataError) as caught:
        read(task)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("x.jsonl", lambda data: data),
        ("x.jsonl.gz", gzip.compress),
        ("x.jsonl.xz", lzma.compress),
        ("x.jsonl.zst", zstandard.compress),
    ],
)
def test_json_lines_are_read_from_every_compression(tmp_path, name, compress):
    (tmp_path / name).write_bytes(compress(lines_of(GOOD).encode()))
    assert texts(task_at(tmp_path, name)) == [("one two", "NA"), ('say "x', "null")]


def test_tables_keep_quotes_and_the_texts_na_and_null(tmp_path):
    (tmp_path / "x.tsv").write_text(table_of(GOOD, "\t"))
    (tmp_path / "x.csv").write_text(table_of(GOOD, ",", quote=True))
    datasets.Dataset.from_list(GOOD).to_parquet(tmp_path / "x.parquet")
    for name in ("x.tsv", "x.csv", "x.parquet"):
        assert texts(task_at(tmp_path, name)) == [("one two", "NA"), ('say "x', "null")]


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), name=st.sampled_from(["jsonl", "csv", "tsv"]))
def test_any_texts_come_back_as_they_were_written(tmp_path, pairs, name):
    if name == "tsv":
        pairs = [(a.replace("\t", " ") + ".", b.replace("\t", " ") + ".") for a, b in pairs]
    rows = [{"a": a, "b": b, "label": "yes"} for a, b in pairs]
    written = {"jsonl": lines_of, "csv": lambda r: table_of(r, ",", quote=True), "tsv": lambda r: table_of(r, "\t")}
    (tmp_path / f"x.{name}").write_text(written[name](rows), encoding="utf-8", newline="")
    assert texts(task_at(tmp_path, f"x.{name}")) == pairs


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            '{"a": "x", "b": "y", "label": "yess"}',
            r"x.jsonl:3: column 'label': unknown label 'yess'. Did you mean 'yes'?",
        ),
        ('{"a": "x", "label": "yes"}', "x.jsonl:3: column 'b': missing; the row has a, label"),
        ('{"a": "  ", "b": "y", "label": "yes"}', "x.jsonl:3: column 'a': empty text '  '"),
        ('{"a": null, "b": "y", "label": "yes"}', "x.jsonl:3: column 'a': no value (null)"),
        ('{"a": 3, "b": "y", "label": "yes"}', "x.jsonl:3: column 'a': expected text, got 3"),
        ('{"a": "x\\u0000", "b": "y", "label": "yes"}', "x.jsonl:3: column 'a': holds a NUL character"),
        ('{"a": "x", "b"', "x.jsonl:3: not valid JSON"),
        ("[1, 2]", "x.jsonl:3: expected a JSON object"),
    ],
)
def test_a_bad_row_is_named_with_file_line_column_and_value(tmp_path, row, message):
    (tmp_path / "x.jsonl").write_text(lines_of(GOOD) + row + "\n" + lines_of(GOOD[:1]))
    assert message in faults_of(task_at(tmp_path, "x.jsonl"))


def test_all_bad_rows_are_counted_and_the_first_twenty_shown(tmp_path):
    (tmp_path / "x.jsonl").write_text(lines_of([{**GOOD[0], "label": f"wrong{i}"} for i in range(25)]))
    message = faults_of(task_at(tmp_path, "x.jsonl"))
    assert "faults: 25" in message
    assert "x.jsonl:20: " in message
    assert "x.jsonl:21: " not in message
    assert "... and 5 more" in message


def test_short_rows_of_a_table_are_faults(tmp_path):
    (tmp_path / "x.tsv").write_text("a\tb\tlabel\none\ttwo\tyes\none\tyes\n")
    assert "x.tsv:3: 2 columns where the header has 3" in faults_of(task_at(tmp_path, "x.tsv"))


def test_a_stray_quote_in_a_csv_is_a_fault_and_never_a_merged_row(tmp_path):
    (tmp_path / "x.csv").write_text('a,b,label\n"one" two,x,yes\nthree,y,no\n')
    assert "x.csv:2: not valid CSV" in faults_of(task_at(tmp_path, "x.csv"))


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbfa,b,label\r\none,two,yes\r\n")
    assert texts(task_at(tmp_path, "x.csv")) == [("one", "two")]


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    lines = [b"a,b,label", *[b"one,two,yes"] * 200]
    lines[150] = b"caf\xe9,two,yes"
    lines[170] = b"one,two,perhaps"
    (tmp_path / "x.csv").write_bytes(b"\n".join(lines) + b"\n")
    message = faults_of(task_at(tmp_path, "x.csv"))
    assert "x.csv:151: not UTF-8: b'caf\\xe9,two,yes" in message
    assert "x.csv:171: column 'label': unknown label 'perhaps'" in message


@pytest.mark.parametrize(("name", "comma"), [("x.csv", ","), ("x.tsv", "\t")])
def test_a_column_name_that_stands_twice_is_a_fault(tmp_path, name, comma):
    (tmp_path / name).write_text("a,b,label,a\none,two,yes,three\n".replace(",", comma))
    assert f"{name}:1: column 'a': stands twice in the header" in faults_of(task_at(tmp_path, name))


@pytest.mark.parametrize("name", ["x.tsv", "x.csv"])
@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"pr\xe4misse,hypothese,label", "not UTF-8: b'pr\\xe4misse"),
        (b"PK\x03\x04\x00archive,data", "no header but binary data"),
    ],
)
def test_a_header_that_cannot_be_read_is_the_only_fault(tmp_path, name, header, told):
    separator = b"\t" if name == "x.tsv" else b","
    lines = [header.replace(b",", separator), separator.join([b"a", b"b", b"yes"])]
    (tmp_path / name).write_bytes(b"\n".join(lines))
    found = faults_of(task_at(tmp_path, name))
    assert "faults: 1\n" in found
    assert f"{name}:1: {told}" in found


def test_a_cut_off_archive_is_named(tmp_path):
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(lines_of(GOOD * 500).encode())[:-20])
    assert "damaged or cut off" in faults_of(task_at(tmp_path, "x.jsonl.gz"))


def test_a_uid_that_stands_twice_is_named_with_both_places(tmp_path):
    (tmp_path / "x.jsonl").write_text(lines_of([{**row, "uid": "u"} for row in GOOD]))
    message = faults_of(task_at(tmp_path, "x.jsonl", uid="uid"))
    assert "x.jsonl:2: column 'uid': 'u' stands twice, first at" in message


def test_rows_without_gold_labels_are_left_out_and_counted(tmp_path):
    (tmp_path / "x.jsonl").write_text(lines_of([*GOOD, {**GOOD[0], "label": "-"}]))
    units, counts = read(task_at(tmp_path, "x.jsonl", ignore_targets=["-"]))
    assert (len(units), counts.rows, counts.kept, counts.without_gold) == (2, 3, 2, 1)


def test_a_group_without_a_right_answer_is_a_fault_unless_dropped(tmp_path):
    rows = [{"a": "q", "b": f"c{i}", "label": "0", "group": 1} for i in range(2)]
    rows += [{"a": "p", "b": f"c{i}", "label": str(i), "group": 2} for i in range(2)]
    (tmp_path / "x.jsonl").write_text(lines_of(rows))
    assert "x.jsonl:1: column 'label': a group of 2 candidates has no right answer" in faults_of(
        task_at(tmp_path, "x.jsonl", task=RANK)
    )
    dropping = RANK.model_copy(update={"groups": RANK.groups.model_copy(update={"no_right": "drop"})})
    units, counts = read(task_at(tmp_path, "x.jsonl", task=dropping))
    assert (len(units), counts.in_dropped_groups) == (1, 2)


def test_slices_and_sums_of_splits(tmp_path):
    rows = [{"a": f"t{i}", "b": "y", "label": "yes"} for i in range(10)]
    (tmp_path / "one.jsonl").write_text(lines_of(rows[:6]))
    (tmp_path / "two.jsonl").write_text(lines_of(rows[6:]))
    task = task_at(tmp_path, "{split}.jsonl", splits={"train": "one + two[:-2]", "validation": "two[-2:]"})
    assert [unit.texts[0][0] for unit in read(task)[0]] == [f"t{i}" for i in range(8)]
    assert [unit.texts[0][0] for unit in read(task, "validation")[0]] == ["t8", "t9"]


def test_one_file_is_split_by_a_hash_that_keeps_equal_texts_together(tmp_path):
    rows = [{"a": f"text {i % 300}", "b": "y", "label": "yes"} for i in range(600)]
    (tmp_path / "x.jsonl").write_text(lines_of(rows))
    task = task_at(tmp_path, "x.jsonl", splits=dict.fromkeys(("train", "validation", "test"), "all"), holdout=0.2)
    found = {split: {unit.texts[0][0] for unit in read(task, split)[0]} for split in ("train", "validation", "test")}
    assert sum(map(len, found.values())) == 300
    assert not found["train"] & found["validation"] | found["train"] & found["test"]
    assert 30 < len(found["validation"]) < 90


def test_a_missing_file_says_what_is_there(tmp_path):
    (tmp_path / "other.jsonl").write_text("")
    with pytest.raises(DataError, match=r"task 'nli': no file .*x\.jsonl; .* holds other\.jsonl"):
        find_source(task_at(tmp_path, "x.jsonl"), "train")


def test_an_undeclared_split_gets_a_suggestion(tmp_path):
    with pytest.raises(DataError, match=r"unknown split 'validation'. .*Known: train"):
        find_source(task_at(tmp_path, "x.jsonl"), "validation")


def test_a_group_whose_only_right_answer_is_a_bad_row_is_left_out_whole(tmp_path):
    rows = [{"a": "q", "b": f"c{i}", "label": str(int(i == 1)), "group": 1} for i in range(3)]
    rows[1]["b"] = ""
    rows += [{"a": "p", "b": f"c{i}", "label": str(i), "group": 2} for i in range(2)]
    (tmp_path / "x.jsonl").write_text(lines_of(rows))
    rejected = []
    source, head = find_source(task_at(tmp_path, "x.jsonl", task=RANK), "train"), build_head(RANK)
    units, counts = read_units(source, head, bad_rows="skip", reject=lambda row, faults: rejected.append(row.values))
    assert [unit.uid for unit in units] == ["2"]
    assert (counts.rows, counts.kept, counts.rejected) == (5, 2, 3)
    assert sorted(row["b"] for row in rejected) == ["", "c0", "c2"]


def test_where_one_file_holds_all_splits_a_bad_row_is_counted_once_among_them(tmp_path):
    rows = [{"a": f"text {i}", "b": "y", "label": "yes"} for i in range(200)]
    (tmp_path / "x.jsonl").write_text(lines_of(rows) + '{"a": ""}\n{\n')
    task = task_at(tmp_path, "x.jsonl", splits=dict.fromkeys(("train", "validation", "test"), "all"), holdout=0.2)
    found = [
        read_units(find_source(task, split), build_head(task), bad_rows="skip")[1]
        for split in ("train", "validation", "test")
    ]
    assert [counts.rejected for counts in found] == [2, 0, 0]
    assert sum(counts.kept for counts in found) == 200
    for counts in found:
        assert counts.rows == 202 == counts.kept + counts.rejected + counts.in_other_splits


def test_a_parquet_file_of_categories_is_read(tmp_path):
    labels = pa.array(["yes", "no"]).dictionary_encode()
    pq.write_table(pa.table({"a": ["x", "y"], "b": ["z", "z"], "label": labels}), tmp_path / "x.parquet")
    assert texts(task_at(tmp_path, "x.parquet")) == [("x", "z"), ("y", "z")]
