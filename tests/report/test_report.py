"""The report of a made-up run: numbers by hand, every part there, nothing from data becomes markup."""

import csv
import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from statistics import mean, stdev

import pytest
from report.made_run import LABELS, TRICKY, write_run
from report.recomputed import calibration_error
from scipy import stats

from mtdnn.cli.show import print_results
from mtdnn.errors import ConfigError, DataError
from mtdnn.markdown import paragraph
from mtdnn.report.figures import Curve, Panel
from mtdnn.report.pairing import against_baseline, compare_systems
from mtdnn.report.sections.curves import learning_curves
from mtdnn.report.study import Study
from mtdnn.report.svg import key, round_ticks, svg
from mtdnn.report.table import Table, write_csv
from mtdnn.report.write import write_report
from mtdnn.runs import read_run, read_runs
from mtdnn.statistics import mcnemar

SYSTEMS = ("plain", "joint", "smart")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "made", dict(zip(SYSTEMS, (0.6, 0.62, 0.95), strict=True)))


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return out, write_report([run], out)


def accuracies(run, system, fraction):
    paths = sorted(run.glob(f"{system}/adapt/nli/{fraction}/*/results.json"))
    return [json.loads(path.read_text())["metrics"]["nli"]["test"]["values"]["accuracy"] for path in paths]


def test_a_comparison_is_a_paired_t_test_over_seeds_with_adjusted_p(run):
    found = against_baseline(Study([read_run(run)])).found
    assert [(each.b.system, each.b.fraction) for each in found] == [
        ("joint", 0.01),
        ("smart", 0.01),
        ("joint", 0.1),
        ("smart", 0.1),
    ]
    p_values = []
    for each in found:
        a, b = accuracies(run, "plain", f"{each.b.fraction:g}"), accuracies(run, each.b.system, f"{each.b.fraction:g}")
        expected = stats.ttest_rel(b, a)
        p_values.append(expected.pvalue)
        assert each.seeds.p_value == pytest.approx(expected.pvalue)
        assert (each.seeds.low, each.seeds.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert [each.adjusted for each in found] == pytest.approx(stats.false_discovery_control(p_values))


def test_two_systems_are_compared_over_examples_too_and_only_where_they_have_seeds_in_common(run, tmp_path):
    found = compare_systems(run / "plain", run / "smart").found
    assert [each.b.fraction for each in found] == [0.01, 0.1]
    assert all(each.examples.low < each.seeds.mean < each.examples.high for each in found)
    assert all(each.mcnemar_p is None for each in found)  # three seeds
    other = write_run(tmp_path / "other", {"plain": 0.5}, seeds=(4,))
    with pytest.raises(
        ConfigError, match=r"no task, fraction and seed in common: nli at 1 %: no seed in common: .* 1, 2, 3"
    ):
        compare_systems(run / "plain", other / "plain")
    with pytest.raises(ConfigError, match=r"unknown system 'smrat'\. Did you mean 'smart'"):
        compare_systems(run / "plain", run / "smrat")


def test_systems_of_one_name_in_two_runs_are_told_apart_and_a_system_is_not_compared_with_itself(tmp_path):
    first, *others = [write_run(tmp_path / name, {"smart": 0.5}) / "smart" for name in ("x/r", "y/r", "s")]
    found = [compare_systems(first, other).found[0] for other in others]
    assert [(each.a.system, each.b.system) for each in found] == [("x/r/smart", "y/r/smart"), ("r/smart", "s/smart")]
    with pytest.raises(ConfigError, match="are the same system"):
        compare_systems(first, first / "../smart")


def test_one_seed_is_compared_by_mcnemar(tmp_path):
    folder = write_run(tmp_path / "one", {"a": 0.5, "b": 0.9}, seeds=(1,), fractions=(0.1,))
    (found,) = compare_systems(folder / "a", folder / "b").found
    right = []
    for system in "ab":
        rows = read_run(folder).cells[system == "b"].predictions("nli", "test")
        right.append([row["prediction"] == row["target"] for row in rows])
    assert found.mcnemar_p == mcnemar(*right)
    assert re.search(r"one seed, 60 examples\): nothing is known of its spread; over .*McNemar's p", found.sentence())


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines(keepends=True)))


class Page(HTMLParser):
    """What a page holds: its tags by name, its ids, its table cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.cells, self.links, self.row_headings = [], [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.append(tag)
        self.row_headings += tag == "th" and named["scope"] == "row"
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named[key] for key in ("src", "href") if key in named]

    def handle_data(self, data):
        self.cells.append(data)


def test_the_page_has_every_part_no_link_outside_and_no_markup_from_data(written):
    page = Page((written[0] / "report.html").read_text())
    parts = ["differences", "results", "learning-curves", "training", "diagnostics", "confusion", "calibration"]
    assert {*parts, "examples", "provenance"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("script") == 1
    assert all(link.startswith("#") for link in page.links)
    assert any(TRICKY in text for text in page.cells)
    assert page.tags.count("svg") > 5
    assert page.row_headings == page.tags.count("tr") - page.tags.count("thead")


def test_a_report_without_texts_shows_which_examples_and_none_of_the_data(run, written, tmp_path):
    paths = write_report([run], tmp_path, texts=False)
    assert "text of e" in (written[0] / "report.md").read_text()
    assert not [path for path in paths if path.suffix != ".png" and "text of e" in path.read_text()]
    (hardest, _) = sorted(tmp_path.glob("tables/hardest*.csv"))
    assert list(rows_of(hardest)[0])[:2] == ["uid", "right label"]
    assert len(list((written[0] / "tables").iterdir())) == len(list((tmp_path / "tables").iterdir()))


def test_verdicts_stand_on_top_and_say_what_is_resolved(written):
    text = (written[0] / "report.md").read_text()
    start = text[: text.index("### ")]
    assert "Of 4 comparisons with plain, 4 could be tested, at 5 % adjusted for their number: " in start
    assert "smart +" in start
    assert "3 seeds, 60 examples): resolved, over seeds" in start


def test_calibration_errors_are_compared_in_pairs_of_the_same_seed_with_adjusted_p(run, written):
    def errors(system, fraction):
        paths = sorted(run.glob(f"{system}/adapt/nli/{fraction}/*/predictions-nli-test.jsonl"))
        return [calibration_error([json.loads(line) for line in path.read_text().splitlines()]) for path in paths]

    shown = rows_of(written[0] / "tables/calibration.csv")
    for row in shown:
        found = errors(row["system"].split(" ")[0], f"{float(row['fraction'].split()[0]) / 100:g}")
        assert float(row["error"]) == pytest.approx(100 * mean(found), abs=0.05)
    rows = rows_of(written[0] / "tables/calibration-differences.csv")
    pairs = [
        (errors("plain", fraction), errors(system, fraction)) for fraction in (0.01, 0.1) for system in SYSTEMS[1:]
    ]
    expected = [stats.ttest_rel(b, a) for a, b in pairs]
    adjusted = stats.false_discovery_control([each.pvalue for each in expected])
    for row, (a, b), test, p in zip(rows, pairs, expected, adjusted, strict=True):
        low, high = (float(end.replace("−", "-")) / 100 for end in row["95 % over seeds"].split(" to "))
        assert float(row["b - a"].replace("−", "-")) / 100 == pytest.approx(mean(b) - mean(a), abs=5e-4)
        assert (low, high) == pytest.approx(tuple(test.confidence_interval(0.95)), abs=5e-4)
        assert float(row["p"].removeprefix("< ")) == pytest.approx(max(test.pvalue, 0.001), abs=5e-4)
        assert float(row["p adjusted"].removeprefix("< ")) == pytest.approx(max(p, 0.001), abs=5e-4)
    assert {(row["a"], row["n"]) for row in rows} == {("plain · adapt", "3")}


def test_warnings_come_once_a_stage_with_the_number_of_models(written):
    text = (written[0] / "report.md").read_text()
    start = text.index("## Warnings")
    assert text.index("### ") < start < text.index("## Results")
    assert text[start : text.index("## Results")].count("smart, adapt (6 models): smart is mostly") == 1


def test_tables_are_csv_and_latex_with_the_numbers_of_the_page(run, written):
    out, paths = written
    rows = rows_of(out / "tables/results.csv")
    values = accuracies(run, "smart", "0.1")
    shown = f"{100 * sum(values) / 3:.1f} ± {100 * stdev(values):.1f}"
    assert [row["test"] for row in rows if (row["system"], row["fraction"]) == ("smart", "10 %")] == [shown]
    latex = (out / "tables/confusion-smart-nli-0.1.tex").read_text()
    assert r"\textbackslash" not in latex
    assert r"\& maybe" in latex
    assert all(path.is_file() for path in paths)
    assert {path.name for path in (out / "figures").iterdir()} >= {"learning-curves.png", "learning-curves.svg"}


def test_confusion_shares_are_those_of_the_rows(run, written):
    rows = rows_of(written[0] / "tables/confusion-plain-nli-0.1.csv")
    cells = [cell for cell in read_run(run).cells if (cell.system, cell.fraction) == ("plain", 0.1)]
    predicted = [row["prediction"] for cell in cells for row in cell.predictions("nli", "test") if row["target"] == 1]
    assert rows[1]["right"] == TRICKY
    assert rows[1][LABELS[0]] == f"{100 * predicted.count(0) / len(predicted):.1f} %"
    assert rows[1]["examples"] == str(len(predicted) // 3)


def test_the_hardest_examples_come_with_their_texts(run, written):
    rows = rows_of(written[0] / "tables/hardest-nli-1%-test.csv")
    hits = {}
    for cell in read_run(run).cells:
        if cell.fraction == 0.01:
            for row in cell.predictions("nli", "test"):
                hits.setdefault(row["uid"], []).append(row["prediction"] == row["target"])
    assert sum(hits[rows[0]["uid"]]) == min(map(sum, hits.values()))
    assert rows[0]["text"].startswith(f"text of {rows[0]['uid']} <script>")


def test_several_runs_keep_their_systems_apart(run, tmp_path):
    other = write_run(tmp_path / "other", {"plain": 0.5})
    systems = Study(read_runs([run, other])).systems
    assert systems == ["made/plain", "made/joint", "made/smart", "other/plain"]
    with pytest.raises(DataError, match="no finished cells there"):
        read_runs([tmp_path / "nothing"])


def test_a_run_of_500_cells_is_a_page_of_less_than_a_megabyte(tmp_path):
    systems = {f"s{number}": 0.5 + number / 60 for number in range(25)}
    folder = write_run(tmp_path / "many", systems, seeds=range(10), num_examples=20)
    write_report([folder], tmp_path / "report")
    assert (tmp_path / "report/report.html").stat().st_size < 1e6


def test_a_panel_is_well_formed_svg_with_its_words_and_a_sentence():
    curve = Curve(name="a < b", x=[1, 10, 100], y=[0.1, 0.5, 0.4], spread=[0.0, 0.1, 0.1], band=True)
    root = ET.fromstring(svg(Panel(title="t & u", x_label="x", y_label="y", curves=[curve], log_x=True)))
    assert root.attrib["aria-label"] == "t & u: y over x. a < b from 0.1 at 1 to 0.4 at 100"
    dots = [each for each in root.iter("path") if each.attrib["class"] == "dot c0"]
    places = [float(dot.attrib["transform"].removeprefix("translate(").split(",")[0]) for dot in dots]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)  # equal ratios
    assert [title.text for title in root.iter("title")][1] == "a < b: 0.5 at 10"
    assert svg(Panel(title="", x_label="", y_label="", curves=[Curve(name="one", x=[1.0], y=[2.0])]))


def learning_curve(tmp_path, *, seeds):
    folder = write_run(tmp_path / "run", {"plain": 0.4, "smart": 0.6}, seeds=seeds, fractions=(0.01, 0.05, 0.1))
    (panel,) = learning_curves(Study([read_run(folder)])).panels
    return panel


def test_two_seeds_are_shown_as_points_and_never_as_a_band(tmp_path):
    panel = learning_curve(tmp_path, seeds=(1, 2))
    assert all(not any(curve.spread) for curve in panel.curves)
    points = [y for curve in panel.curves for _, y in curve.single_points()]
    assert len(points) == 2 * 3 * 2
    low, high = panel.y_limits()
    assert low < min(points) < max(points) < high
    assert high - low < 1.2 * (max(points) - min(points))
    assert svg(panel).count("<path") == 2 * 3 + 2 * 3 * 2


def test_three_seeds_have_a_band_and_no_band_takes_more_than_two_thirds_of_an_axis(tmp_path):
    panel = learning_curve(tmp_path, seeds=(1, 2, 3))
    assert all(all(curve.spread) and not curve.single_points() for curve in panel.curves)
    assert svg(panel).count("<polygon") == 2
    wide = Curve(name="c", x=[1.0, 2.0], y=[50.0, 51.0], spread=[40.0, 0.1], band=True)
    low, high = Panel(title="", x_label="", y_label="", curves=[wide]).y_limits()
    assert (low, high) == pytest.approx((48.85, 52.15))


def test_forty_curves_differ_by_dashes_and_marks_alone():
    curves = [Curve(name=str(number), x=[1.0, 2.0], y=[1.0, 2.0]) for number in range(40)]
    root = ET.fromstring(svg(Panel(title="", x_label="", y_label="", curves=curves)))
    dashes = [line.get("stroke-dasharray") for line in root.iter("polyline")]
    marks = [dot.get("d") for dot in list(root.iter("path"))[::2]]
    assert len(set(zip(dashes, marks, strict=True))) == 40
    legend = [ET.fromstring(key(number)) for number in range(40)]
    assert [each.find("line").get("stroke-dasharray") for each in legend] == dashes
    assert [each.find("path").get("d") for each in legend] == marks


@pytest.mark.parametrize(("low", "high", "ticks"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (48, 73, [50, 55, 60, 65, 70])])
def test_ticks_are_round_numbers(low, high, ticks):
    assert round_ticks(low, high) == pytest.approx(ticks)


def test_a_table_escapes_what_its_formats_read_as_their_own():
    table = Table(name="t", title="", header=["a|b", "50 %"], rows=[["x\ny", r"\_<b>"], ["=1+1", "-1.5 ± 2"]])
    assert table.markdown().splitlines()[0] == r"| a\|b | 50 % |"
    assert table.markdown().splitlines()[1] == "| --- | --- |"
    assert table.markdown().splitlines()[2] == r"| x y | \\\_&lt;b> |"
    assert r"a$|$b & 50 \% \\" in table.latex()
    assert r"x y & \textbackslash{}\_$<$b$>$ \\" in table.latex()
    assert r"=1+1 & $-$1.5 $\pm$ 2 \\" in table.latex()
    assert list(csv.reader(table.csv().splitlines(keepends=True)))[1:] == [["x\ny", r"\_<b>"], ["'=1+1", "-1.5 ± 2"]]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("< 0.001", "$<$ 0.001"),
        ("−0.3 to +1.2, -0.3 ± .5", r"$-$0.3 to +1.2, $-$0.3 $\pm$ .5"),
        ("(-1.5) -.5", r"($-$1.5) $-$.5"),
        ("bert-2, 2024-01-02, 5e-05", "bert-2, 2024-01-02, 5e-05"),
        ("a--b --- -", "a-{}-b -{}-{}- -"),
        ("* [x] ?` !`", r"{*} {[}x{]} ?{`} !{`}"),
        ("\\ ~ ^ & % $ # _ { }", r"\textbackslash{} \textasciitilde{} \textasciicircum{} \& \% \$ \# \_ \{ \}"),
        ("smart · joint → a ‖ b × 2", r"smart · joint $\rightarrow$ a $\Vert$ b $\times$ 2"),
        ("one\r\ntwo\u2028three", "one two three"),
    ],
)
def test_latex_prints_text_as_it_is(text, escaped):
    latex = Table(name="t", title="", header=[text], rows=[]).latex()
    assert latex.splitlines()[2] == rf"{escaped} \\"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("smart_mtdnn at 5 % (n = 3)", "smart_mtdnn at 5 % (n = 3)"),
        ("# a *b* _c_\n`d`", r"\# a \*b\* \_c\_ \`d\`"),
        ("+0.6 to 0.7", "+0.6 to 0.7"),
        ("[x](y) <b> &lt; R&D", r"\[x\](y) &lt;b> \&lt; R&D"),
        ("1. one ~~two~~ $x$", r"1\. one \~\~two\~\~ \$x\$"),
        ("- item", r"\- item"),
    ],
)
def test_markdown_shows_text_as_it_is(text, escaped):
    assert paragraph(text) == escaped


def test_a_table_is_written_as_csv_with_its_folder_and_a_place_that_cannot_be_is_named(tmp_path):
    table = Table(name="t", title="", header=["x", "y"], rows=[(1, "a,b")])
    path = write_csv(table, tmp_path / "new/a.csv")
    assert path.read_text() == 'x,y\n1,"a,b"\n'
    with pytest.raises(ConfigError, match="cannot be written"):
        write_csv(table, path / "a.csv")


def test_stages_come_in_the_experiments_order_and_cosine_is_no_baseline(tmp_path):
    folder = write_run(tmp_path / "stages", {"plain": 0.5}, fractions=(0.1,))
    overview = json.loads((folder / "results.json").read_text())
    later = []
    for result in overview:
        inputs = {**result["inputs"], "upstream": "x", "stage": {**result["inputs"]["stage"], "kind": "finetune"}}
        later.append({**result, "stage": "after", "inputs": inputs})
    (folder / "results.json").write_text(json.dumps([*overview, *later]))
    for result in later:
        place = folder / "plain/after/nli/0.1" / str(result["seed"])
        place.mkdir(parents=True)
        (place / "results.json").write_text(json.dumps(result))
    assert [group.stage for group in Study([read_run(folder)]).last] == ["after"]
    (folder / "results.json").unlink()
    assert [group.stage for group in Study([read_run(folder)]).last] == ["after"]


def test_a_cell_that_shares_anothers_folder_is_read_once_even_where_an_old_folder_is_left(tmp_path):
    folder = write_run(tmp_path / "twice", {"a": 0.5, "b": 0.5}, fractions=(0.1,), seeds=(1,))
    overview = json.loads((folder / "results.json").read_text())
    overview[1] |= {"same_as": "a/adapt/nli/0.1/1"}
    (folder / "results.json").write_text(json.dumps(overview))
    run = read_run(folder)
    assert [cell.system for cell in run.cells] == ["a", "b"]
    assert run.cells[1].folder == folder / "a/adapt/nli/0.1/1"


def test_predictions_that_are_missing_leave_out_what_needs_them(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for path in (copy / "plain").rglob("predictions-*.jsonl"):
        path.unlink()
    write_report([copy], tmp_path / "report")
    assert not (tmp_path / "report/tables/confusion-plain-nli-0.1.csv").exists()


def test_two_runs_of_one_name_and_tables_of_one_name_are_kept_apart(run, tmp_path):
    shutil.copytree(run, tmp_path / "x/made")
    with pytest.raises(DataError, match="two runs are called made"):
        read_runs([run, tmp_path / "x/made"])


def test_systems_stand_in_the_experiment_s_order_before_the_run_is_done(tmp_path):
    folder = write_run(tmp_path / "run", {"zeta": 0.6, "alpha": 0.7}, seeds=(1,), fractions=(0.1,))
    (folder / "results.json").unlink()
    assert [cell.system for cell in read_run(folder).cells] == ["alpha", "zeta"]
    (folder / "experiment.json").write_text(json.dumps({"places": [["zeta", "adapt"], ["alpha", "adapt"]]}))
    assert [cell.system for cell in read_run(folder).cells] == ["zeta", "alpha"]


def test_the_end_of_a_run_names_the_report_and_the_command_that_writes_it(tmp_path, capsys):
    folder = write_run(tmp_path / "a run", {"plain": 0.6}, seeds=(1,), fractions=(0.1,))
    print_results(json.loads((folder / "results.json").read_text()), folder, trained=1, of=1)
    *_, last = capsys.readouterr().out.splitlines()
    verb, name, place = shlex.split(last)
    assert (verb, name) == ("mtdnn", "report")
    assert read_run(Path(place)).name == "a run"
