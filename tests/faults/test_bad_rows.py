"""D1 to D3: bad rows, texts of every kind, and examples that stand in two splits."""

import csv
import gzip
import io
import json
import lzma
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support import NLI, STS, write_toy_experiment

from mtdnn.config import load_experiment
from mtdnn.data.sources import find_source
from mtdnn.data.units import read_units
from mtdnn.data_store import DataStore
from mtdnn.errors import DataError
from mtdnn.experiment import Experiment
from mtdnn.heads.base import build_head
from mtdnn.tasks import load_tasks

LONG = "long " * 200_000  # a megabyte
ODD = {  # texts that a reader may take for something else
    "na": "NA",
    "null": "null",
    "quotes": 'say "x" and "',
    "separators": "one\u2028two\u2029three\x85four",
    "long": LONG,
    "none": "None",
    "nan": "nan",
    "comma": "one, two",
}
GOOD = [{"uid": f"good-{name}", "a": text, "b": "two", "label": "yes"} for name, text in ODD.items()]
BAD = {  # what is wrong in the column that is named
    "unknown label": ("label", {"label": "yess"}),
    "empty text": ("a", {"a": "  "}),
    "no text": ("b", {"b": ""}),
    "NUL": ("a", {"a": "x\x00y"}),
    "duplicate uid": ("uid", {"uid": "good-na"}),
    "long label": ("label", {"label": LONG}),
}
FORMATS = ("tsv", "csv", "jsonl", "parquet")


def definition(folder, name, task=NLI):
    files = {"path": name, "splits": {"train": "train"}, "uid": "uid"}
    return type(task).model_validate(
        {**task.model_dump(exclude={"folder"}), "data": {"files": files}, "folder": folder}
    )


def rows_of(task):
    """(units, counts, rejected) with bad rows skipped."""
    rejected = []
    units, counts = read_units(
        find_source(task, "train"),
        build_head(task),
        bad_rows="skip",
        reject=lambda row, faults: rejected.append(row.rejection(faults)),
    )
    return units, counts, rejected


def told(task):
    with pytest.raises(DataError) as caught:
        read_units(find_source(task, "train"), build_head(task))
    return str(caught.value)


def write(path, rows, *, ends="\n", raw=()):
    """Rows in the format of the file's name; ``raw`` lines stand at the end as they are."""
    columns = list(rows[0])
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.table({name: [row[name] for row in rows] for name in columns}), path)
            return
        case ".jsonl":
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        case ".tsv":
            lines = ["\t".join(map(str, each)) for each in (columns, *(row.values() for row in rows))]
        case ".csv":
            lines = []
            for each in (columns, *(row.values() for row in rows)):
                text = io.StringIO()
                csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow(each)
                lines.append(text.getvalue())
    content = [line.encode() for line in lines] + list(raw)
    path.write_bytes(b"\xef\xbb\xbf" + b"".join(line + ends.encode() for line in content))


@pytest.mark.fault("D1")
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_every_bad_row_is_told_with_its_place_column_and_value_or_left_out_and_kept_apart(tmp_path, kind, ends, tried):
    path = tmp_path / f"x.{kind}"
    good = [row for row in GOOD if kind != "tsv" or "\t" not in row["a"]]
    bad = [{"uid": f"bad-{name}", "a": "one", "b": "two", "label": "no", **change} for name, (_, change) in BAD.items()]
    write(path, [*good, *bad], ends=ends)
    task, first = definition(tmp_path, path.name), len(good) + (2 if kind in ("tsv", "csv") else 1)
    message = told(task)
    for number, (column, _) in enumerate(BAD.values(), first):
        assert f"{path}:{number}: column '{column}': " in message
    assert f"faults: {len(BAD)}\n" in message
    assert len(message) < 10_000
    units, counts, rejected = rows_of(task)
    assert [unit.texts[0][0] for unit in units] == [row["a"] for row in good]
    assert (counts.rows, counts.kept, counts.rejected) == (len(good) + len(bad), len(good), len(bad))
    assert [each["values"] for each in rejected] == bad
    assert [each["faults"][0]["column"] for each in rejected] == [column for column, _ in BAD.values()]
    tried(len(good) + len(bad), f"{kind} with {ends!r}: all told")


RAW = {
    ("tsv", b"u\tone\ttwo"): "3 columns where the header has 4",
    ("tsv", b"u\tone\ttwo\tyes\textra"): "5 columns where the header has 4",
    ("tsv", b"u\tcaf\xe9\ttwo\tyes"): "not UTF-8",
    ("csv", b"u,one,two"): "3 columns where the header has 4",
    ("csv", b"u,one,two,yes,extra"): "5 columns where the header has 4",
    ("csv", b"u,caf\xe9,two,yes"): "not UTF-8",
    ("csv", b'u,"one" two,x,yes'): "not valid CSV",
    ("csv", b'u,"one,two,yes'): "not valid CSV",
    ("jsonl", b'{"uid": "u", "a": "one", "b": "two"}'): "column 'label': missing",
    ("jsonl", b'{"uid": "u", "a": "one", "b": "tw'): "not valid JSON",
    ("jsonl", b'{"uid": "u", "a": "one", "b": "caf\xe9", "label": "yes"}'): "not UTF-8",
    ("jsonl", b'{"uid": "u", "a": "\\ud800", "b": "two", "label": "yes"}'): "half of a character",
    ("jsonl", b'["u", "one", "two", "yes"]'): "expected a JSON object",
    ("jsonl", b"[" * 100_000): "not valid JSON",
    ("jsonl", b'{"uid": "u", "a": 3, "b": "two", "label": "yes"}'): "expected text, got 3",
}


@pytest.mark.fault("D1")
def test_a_line_that_cannot_be_read_costs_itself_and_no_other(tmp_path, tried):
    for number, ((kind, line), message) in enumerate(RAW.items()):
        path = tmp_path / f"{number}.{kind}"
        before, after = ({"uid": uid, "a": f"text {uid}", "b": "NA", "label": "no"} for uid in ("first", "last"))
        write(path, [before], raw=[line])
        rest = tmp_path / f"rest.{kind}"
        write(rest, [after])
        path.write_bytes(path.read_bytes() + rest.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(True)[-1])
        task, place = definition(tmp_path, path.name), f"{path}:{2 if kind == 'jsonl' else 3}: "
        assert place in told(task)
        assert message in told(task)
        units, counts, rejected = rows_of(task)
        assert [unit.uid for unit in units] == ["first", "last"]
        assert (counts.rows, counts.kept, counts.rejected) == (3, 2, 1)
        assert rejected[0]["place"] == place.removesuffix(": ")
    tried(len(RAW), "told; the rows beside are whole")


@pytest.mark.fault("D1")
@pytest.mark.parametrize("score", ["nan", "inf", "1e400", "six", "", None, True, "5.01"])
def test_a_score_that_is_no_finite_number_in_the_range_is_a_bad_row(tmp_path, score, tried):
    rows = [{"uid": "1", "a": "x", "b": "y", "label": 2.5}, {"uid": "2", "a": "x", "b": "y", "label": score}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = definition(tmp_path, "x.jsonl", STS)
    if score is True:  # a number to Python
        rows[1]["label"] = float("nan")
        (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "x.jsonl:2: column 'label'" in told(task)
    assert rows_of(task)[1].rejected == 1
    tried(1, "told")


@pytest.fixture
def spoilt(tmp_path):
    """The toy experiment with three bad rows in a training file."""
    path = write_toy_experiment(tmp_path)
    train = tmp_path / "tasks/sts-train.jsonl"
    bad = [{"uid": "x1", "a": "", "b": "y", "label": 1.0}, {"uid": "x2", "a": "x", "b": "y", "label": "NaN"}]
    train.write_text(train.read_text() + "".join(json.dumps(row) + "\n" for row in bad) + "{\n")
    return path


ONE_CELL = ["systems={single: [{name: s, kind: finetune, tasks: [sts]}]}", "train.epochs=1", "seeds=[1]"]


@pytest.mark.fault("D1")
def test_a_run_that_skips_bad_rows_counts_them_and_writes_them_to_its_folder(spoilt, mtdnn, tried):
    folder = spoilt.parent
    command = ["run", spoilt, "--task-defs", folder / "tasks", "--out", folder / "out"]
    command += [word for setting in ONE_CELL for word in ("--set", setting)]
    code, _, error = mtdnn(*command)
    assert code == DataError.exit_code
    assert "sts-train.jsonl:51: not valid JSON" in error
    code, _, _ = mtdnn(*command, "--bad-rows", "skip")
    assert code == 0
    rejected = [json.loads(line) for line in (folder / "out/rejected/sts-train.jsonl").read_text().splitlines()]
    assert [each["place"].rpartition(":")[2] for each in rejected] == ["49", "50", "51"]
    assert rejected[0]["values"]["uid"] == "x1"
    assert rejected[2]["raw"] == "{"
    (result,) = json.loads((folder / "out/results.json").read_text())
    assert (result["data"]["sts"]["rows"], result["data"]["sts"]["rejected"]) == (48, 3)
    assert "bad_rows" not in result["inputs"]["data"]
    tried(3, "left out, counted, kept apart")


@pytest.mark.fault("D1")
def test_check_counts_what_would_be_skipped(spoilt, mtdnn, tried):
    code, out, _ = mtdnn("check", "sts", "--task-defs", spoilt.parent / "tasks", "--bad-rows", "skip")
    assert code == 0
    (row,) = (line for line in out.splitlines() if "sts" in line and "train" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")[2:6]] == ["51", "48", "3", "3"]
    tried(3, "counted")


@pytest.mark.fault("D1")
def test_a_split_without_bad_rows_is_the_same_one_in_the_cache_whether_they_are_skipped_or_not(tmp_path, tried):
    path, folder = write_toy_experiment(tmp_path), tmp_path / "tasks"
    stop, skip = (
        Experiment(load_experiment(path, overrides=[f"data.bad_rows={way}"]), load_tasks(folder), out=tmp_path / way)
        for way in ("stop", "skip")
    )
    assert stop.inputs(stop.cells[0]) == skip.inputs(skip.cells[0])
    files = [each.data.split("nli", "train").table.cache_files for each in (stop, skip)]
    assert files[0] == files[1]
    tried(1, "one entry, the same inputs")


ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1).filter(str.strip)
ONE_LINE = ANY.filter(lambda text: not set(text) & set("\t\n\r"))
ROUND_TRIPS = {
    "jsonl": ANY,
    "jsonl.gz": ANY,
    "jsonl.xz": ANY,
    "jsonl.zst": ANY,
    "csv": ANY,
    "tsv": ONE_LINE,
    "parquet": ANY,
    "mtdnn": ONE_LINE,
}
HARD = ("a\rb", "a\r\nb", 'say "no", or\n"yes"', "\ufeffmarked", "a\u2028b\x85c", '"', "=1+1", "NA")
COMPRESS = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.mark.fault("D2")
@pytest.mark.parametrize("kind", ROUND_TRIPS)
def test_any_texts_come_back_as_they_were_written(tmp_path, kind, times, tried):
    count = times(100, full=1000)
    path = tmp_path / f"x.{kind}"
    layout = {"path": path.name, "splits": {"train": "train"}}
    inputs = {"text_a": "a", "text_b": "b"}
    if kind == "mtdnn":
        layout, inputs = {**layout, "format": "mtdnn"}, {"text_a": "premise", "text_b": "hypothesis"}
    task = type(NLI).model_validate(
        {**NLI.model_dump(exclude={"folder"}), "data": {"files": layout}, "inputs": inputs, "folder": tmp_path}
    )
    source, head, seen = find_source_of(task, path), build_head(task), []

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(pairs=st.lists(st.tuples(ROUND_TRIPS[kind], ROUND_TRIPS[kind]), min_size=1, max_size=4))
    def round_trip(pairs):
        rows = [{"a": a, "b": b, "label": "yes"} for a, b in pairs]
        if kind == "mtdnn":
            lines = [f"{number}\tyes\t{a}\t{b}\n" for number, (a, b) in enumerate(pairs)]
            path.write_bytes(b"\xef\xbb\xbf" + "".join(lines).encode())
        elif path.suffix in COMPRESS:
            plain = tmp_path / "plain.jsonl"
            write(plain, rows)
            path.write_bytes(COMPRESS[path.suffix](plain.read_bytes()))
        else:
            write(path, rows)
        assert [unit.texts[0] for unit in read_units(source, head)[0]] == pairs
        seen.append(len(pairs))

    one_line = ROUND_TRIPS[kind] is ONE_LINE
    hard = [text for text in HARD if not (one_line and set(text) & set("\n\r"))]
    round_trip = example(pairs=[*zip(hard, reversed(hard), strict=True)])(round_trip)
    round_trip()
    tried(len(seen), f"{kind}: identical")


def find_source_of(task, path):
    path.touch()
    return find_source(task, "train")


@pytest.mark.fault("D3")
def test_an_example_in_two_splits_of_one_task_or_of_two_is_reported_and_left_out_of_training(tmp_path, mtdnn, tried):
    path, folder = write_toy_experiment(tmp_path), tmp_path / "tasks"
    rng = random.Random(0)
    held_out = {
        (task, split): [json.loads(line) for line in (folder / f"{task}-{split}.jsonl").read_text().splitlines()]
        for task in ("nli", "sts")
        for split in ("validation", "test")
    }
    leaks = [rng.choice(rows) for rows in held_out.values()]
    changed = [{"uid": f"leak{i}", "a": row["b"].upper(), "b": f" {row['a']}  "} for i, row in enumerate(leaks)]
    with (folder / "nli-train.jsonl").open("a") as file:
        file.writelines(json.dumps({**row, "label": "no"}) + "\n" for row in changed)
    code, out, _ = mtdnn("check", "nli", "sts", "--task-defs", folder)
    assert code == 0
    (row,) = (line for line in out.splitlines() if "nli" in line and "train" in line and "│" in line)
    assert row.strip("│ ").split("│")[8].strip() == "2"  # of its own validation and test
    for split in ("validation", "test"):
        assert f"leak: 1 training rows of 'nli' stand in the {split} split of 'sts'" in " ".join(out.split())
    store = DataStore(load_experiment(path), load_tasks(folder), data_dir=None)
    train, counts = store.train("nli", fraction=None, max_rows=None, seed=1)
    assert counts["leaks_dropped"] == len(leaks)
    assert not {row["uid"] for row in changed} & set(train.uids)
    tried(len(leaks), "reported, and left out")
