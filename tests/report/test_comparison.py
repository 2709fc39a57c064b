"""What is compared with what, and what is said of it: runs made by hand, one for each way to be misled."""

import json
from pathlib import Path

import pytest
from report.made_run import write_run

from mtdnn.errors import ConfigError, DataError
from mtdnn.report.comparison import HEADER, Verdict, comparison_table
from mtdnn.report.pairing import against_baseline, compare_systems
from mtdnn.report.sections.curves import learning_curves
from mtdnn.report.sections.published import published
from mtdnn.report.sections.results import differences, results, verdicts
from mtdnn.report.sections.transfer import transfer
from mtdnn.report.study import Study
from mtdnn.report.tables import lines, results_table
from mtdnn.runs import FinishedCell, Run, read_run, read_runs

BASE = {1: 0.570, 2: 0.574, 3: 0.566, 4: 0.571, 5: 0.569}


def cell(system, seed, value, *, task="rte", stage="finetune", fraction=None, split="validation", run="", **facts):
    """A finished cell with a value by metric, or one of accuracy."""
    values = value if isinstance(value, dict) else {"accuracy": value}
    inputs = {"stage": {"kind": stage}, "upstream": facts.get("upstream")}
    if "content" in facts:
        inputs["content"] = {f"{task}/{split}": facts["content"]}
    result = {
        "system": system,
        "stage": stage,
        "tasks": [task],
        "fraction": fraction,
        "seed": seed,
        "metrics": {task: {split: {"values": values, "units": 277}}},
        "inputs": inputs,
    }
    return FinishedCell(Path("nowhere", run, system, stage, task, str(fraction), str(seed)), run + system, result)


def cells(system, values, **facts):
    return [cell(system, seed, value, **facts) for seed, value in values.items()]


def above(changes):
    """The baseline's values by seed, each moved by so many hundredths."""
    return {seed: BASE[seed] + change / 100 for seed, change in zip(BASE, changes, strict=False)}


def compared(tmp_path, *groups, planned=()):
    (tmp_path / "experiment.json").write_text(json.dumps({"planned": planned}))
    return against_baseline(Study([Run(tmp_path, [each for group in groups for each in group])]))


def verdicts_of(compared):
    return {(each.b.system, each.b.task): each.verdict for each in compared.found}


def test_each_verdict_has_its_case(tmp_path):
    found = compared(
        tmp_path,
        cells("standard", BASE),
        cells("better", above([2.0, 2.1, 1.9, 2.0, 2.1])),
        cells("unclear", above([2.0, -2.0, 1.0, 0.5, -1.0])),
        cells("same", BASE),
        cells("shifted", above([1.0] * 5)),
        cells("once", {1: 0.6}),
    )
    assert verdicts_of(found) == {
        ("better", "rte"): Verdict.OVER_SEEDS,
        ("unclear", "rte"): Verdict.UNRESOLVED,
        ("same", "rte"): Verdict.SAME,
        ("shifted", "rte"): Verdict.NO_SPREAD,
        ("once", "rte"): Verdict.ONE_SEED,
    }
    assert [each.tests for each in found.found if each.adjusted is not None] == [2, 2]
    count, *sentences = verdicts(found)
    assert count == (
        "Of 5 comparisons with standard, 2 could be tested, at 5 % adjusted for their number: 1 resolved over seeds "
        "(other examples were not tested), 1 not resolved, 1 with a single seed, 1 with the same value in every seed, "
        "1 with the same difference in every seed."
    )
    assert "what other examples would give was not tested" in sentences[0]
    assert sentences[2].endswith("(validation accuracy, 5 seeds, 277 examples): the same value in every seed.")


def shared(cells, system):
    """The same cells as another system's: trained once, for both."""
    return [FinishedCell(each.folder, system, {**each.result, "system": system, "same_as": "x"}) for each in cells]


def test_a_model_is_not_compared_with_itself_and_a_pair_of_models_counts_once(tmp_path):
    plain, smart = cells("plain", BASE), cells("smart", above([0.2, 1.0, 1.8, 0.4, 1.2]))
    alone = compared(tmp_path, plain, smart)
    found = compared(tmp_path, plain, smart, shared(plain, "twin"), shared(smart, "smart_twin"))
    assert verdicts_of(found) == verdicts_of(alone) == {("smart", "rte"): Verdict.OVER_SEEDS}
    assert [(each.tests, each.adjusted) for each in found.found] == [(1, alone.found[0].seeds.p_value)]
    told = "Trained once, and compared once: twin · finetune is plain · finetune; smart_twin · finetune is smart · "
    assert verdicts(found)[-1] == f"{told}finetune."
    assert len(verdicts(found)) == len(verdicts(alone)) + 1


def test_models_that_systems_share_in_a_part_of_their_seeds_are_compared(tmp_path):
    plain = cells("plain", BASE)
    half = shared(plain[:3], "half") + cells("half", {4: 0.58, 5: 0.59})
    assert verdicts_of(compared(tmp_path, plain, half)) == {("half", "rte"): Verdict.UNRESOLVED}


def test_compare_leaves_out_the_models_that_two_systems_share(tmp_path):
    folder = write_run(tmp_path / "run", {"a": 0.5, "b": 0.6})
    overview = json.loads((folder / "results.json").read_text())
    for each in overview:
        if each["system"] == "b" and each["fraction"] == 0.1:
            each["same_as"] = f"a/adapt/nli/0.1/{each['seed']}"
    (folder / "results.json").write_text(json.dumps(overview))
    found = compare_systems(folder / "a", folder / "b")
    assert [each.b.fraction for each in found.found] == [0.01]
    assert (found.left_out, found.shared) == ([], ["b · adapt is a · adapt"])
    for path in folder.glob("*/adapt/nli/0.01/*/results.json"):
        path.unlink()
    with pytest.raises(ConfigError, match="seed in common: b · adapt is a · adapt, the same models"):
        compare_systems(folder / "a", folder / "b")


def test_what_only_the_adjustment_leaves_unresolved_says_both_p_and_what_would_have_been_missed(tmp_path):
    noise = [above([k % 3 - 1.0, 1.0 - k % 2, -0.4, 0.1 * k, -0.3]) for k in range(8)]
    found = compared(
        tmp_path,
        cells("standard", BASE),
        cells("smart", above([0.2, 1.0, 1.8, 0.4, 1.2])),
        *(cells(f"noise{number}", values) for number, values in enumerate(noise)),
    ).found
    smart = found[0]
    assert smart.seeds.resolved
    assert smart.seeds.p_value < 0.05 < smart.adjusted
    assert smart.verdict == Verdict.UNRESOLVED
    detectable = smart.seeds.detectable(tests=9)
    assert detectable > 1.5 * smart.seeds.detectable()
    told = smart.sentence()
    assert f"p {smart.seeds.p_value:.3f}, adjusted for 9 comparisons {smart.adjusted:.3f}" in told
    assert told.endswith(f"with so many seeds one below {100 * detectable:.1f} is missed more than one time in five.")


def test_two_seeds_far_apart_are_said_to_show_hardly_any_difference(tmp_path):
    (found,) = compared(tmp_path, cells("standard", {1: 0.5, 2: 0.6}), cells("smart", {1: 0.6, 2: 0.55})).found
    assert found.seeds.detectable() > 1
    assert dict(zip(HEADER, found.row(), strict=True))["detectable"] == "> 100"
    assert found.sentence().endswith("; so few seeds show hardly any difference that there could be.")


def test_seeds_that_agree_do_not_speak_for_other_examples(tmp_path):
    folder = write_run(tmp_path / "run", {"plain": 0.5, "smart": 0.5}, fractions=(0.1,), num_examples=277)
    for seed in (1, 2, 3):
        change_answers(folder / f"plain/adapt/nli/0.1/{seed}", right=range(7), wrong=range(7, 18))
        copy_answers(folder, seed, right=range(7, 17 + (seed == 1)), wrong=range(7))
    (found,) = compare_systems(folder / "plain", folder / "smart").found
    assert found.seeds.resolved
    assert not found.examples.resolved
    assert found.verdict == Verdict.THESE_EXAMPLES
    assert "resolved on these examples, over seeds +" in found.sentence()
    assert "; not for others, over examples −" in found.sentence()
    (reported,) = against_baseline(Study([read_run(folder)])).found
    assert reported.verdict == Verdict.THESE_EXAMPLES


def change_answers(place, *, right, wrong):
    path = place / "predictions-nli-test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for number, row in enumerate(rows):
        if number in right:
            row["prediction"] = row["target"]
        elif number in wrong:
            row["prediction"] = 1 - row["target"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stored = json.loads((place / "results.json").read_text())
    right_ones = sum(row["prediction"] == row["target"] for row in rows)
    stored["metrics"]["nli"]["test"]["values"]["accuracy"] = right_ones / len(rows)
    (place / "results.json").write_text(json.dumps(stored))


def copy_answers(folder, seed, *, right, wrong):
    """smart answers as plain does, but for some examples."""
    plain, smart = (folder / f"{name}/adapt/nli/0.1/{seed}" for name in ("plain", "smart"))
    (smart / "predictions-nli-test.jsonl").write_text((plain / "predictions-nli-test.jsonl").read_text())
    change_answers(smart, right=right, wrong=wrong)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (cells("smart", {6: 0.6, 7: 0.6}), "no seed in common: standard has 1, 2, 3, 4, 5, smart 6, 7"),
        (cells("smart", BASE, split="test"), "standard and smart have no split in common"),
        (cells("smart", {1: {"f1": 0.5}}), "standard has no validation f1"),
        (
            cells("smart", BASE, content="other"),
            "standard and smart were not evaluated on the same validation examples",
        ),
    ],
)
def test_what_cannot_be_compared_is_said_with_the_reason(tmp_path, other, reason):
    found = compared(tmp_path, cells("standard", BASE, content="c"), other)
    assert not found.found
    assert found.left_out == [f"smart on rte: {reason}"]
    assert verdicts(found) == [
        "Of 0 comparisons, none could be tested. 1 could not be made.",
        f"Not compared: smart on rte: {reason}.",
    ]


PLANNED = [
    ("standard", "finetune", "rte", None),
    ("standard", "finetune", "mrpc", None),
    ("smart", "joint", "rte", None),
    ("smart", "finetune", "rte", None),
    ("smart", "finetune", "mrpc", None),
    ("bregman", "finetune", "mrpc", None),
    ("bregman", "finetune", "sst2", None),
    ("rapt", "finetune", "sst2", None),
    ("bregman", "finetune", "cola", None),
    ("rapt", "finetune", "cola", None),
    ("vat", "finetune", "cola", None),
]


def test_the_baseline_stays_who_it_is_where_its_result_is_still_to_come(tmp_path):
    better = above([2.0, 2.1, 1.9, 2.0, 2.1])
    found = compared(
        tmp_path,
        cells("standard", BASE),
        cells("smart", better, stage="joint"),
        *(cells(name, better, task="mrpc") for name in ("smart", "bregman")),
        *(cells(name, BASE, task="sst2") for name in ("bregman", "rapt")),
        *(cells(name, BASE, task="cola") for name in ("rapt", "vat")),
        planned=PLANNED,
    )
    assert [(each.a.system, each.b.system, each.b.task) for each in found.found] == [("bregman", "rapt", "sst2")]
    assert found.left_out == [
        "smart on rte: smart is not through, its stage 'finetune' is to come",
        "smart on mrpc: standard has no result there yet",
        "bregman on mrpc: standard has no result there yet",
        "rapt on cola: bregman has no result there yet",
        "vat on cola: bregman has no result there yet",
    ]


def test_what_the_experiment_no_longer_has_is_named_and_not_compared(tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps({"planned": PLANNED, "places": [p[:2] for p in PLANNED]}))
    for system, stage, change in (("standard", "finetune", 0), ("smart", "finetune", 2), ("smart", "old", -5)):
        for made in cells(system, above([change, change + 0.1, change - 0.1]), stage=stage):
            write_cell_of(tmp_path, made)
    for made in cells("gone", BASE):
        write_cell_of(tmp_path, made)
    study = Study([read_run(tmp_path)])
    found = against_baseline(study)
    assert [(each.b.name, round(each.seeds.mean, 4)) for each in found.found] == [("smart · finetune", 0.02)]
    assert found.left_out == [
        "smart · old on rte: the experiment has it no more",
        "gone · finetune on rte: the experiment has it no more",
    ]
    assert [group.stage for group in study.last if group.system == "smart"] == ["finetune"]


def write_cell_of(folder, made):
    place = folder / made.system / made.stage / made.tasks[0] / "full" / str(made.seed)
    place.mkdir(parents=True)
    (place / "results.json").write_text(json.dumps(made.result))


def test_compare_waits_for_a_system_s_last_stage_too(tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps({"planned": PLANNED}))
    for made in cells("standard", BASE) + cells("smart", above([2.0, 2.1, 1.9]), stage="joint"):
        write_cell_of(tmp_path, made)
    with pytest.raises(ConfigError, match="smart is not through, its stage 'finetune' is to come"):
        compare_systems(tmp_path / "standard", tmp_path / "smart")


def test_a_stage_whose_kind_was_changed_is_two_groups(tmp_path):
    made = [cell("smart", 1, 0.8, stage="joint"), cell("smart", 1, 0.6)]
    for each in made:
        each.result["stage"] = "train"
    assert [group.kind for group in Study([Run(tmp_path, made)]).groups] == ["joint", "finetune"]


def test_a_curve_keeps_its_last_point_and_a_published_figure_its_own_fraction(tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps({"name": "smart-table4-ablation"}))
    made = [
        cell("bert", 1, value, stage="adapt", fraction=share) for share, value in ((0.1, 0.3), (0.3, 0.4), (1.0, 0.5))
    ]
    study = Study([Run(tmp_path, [*made, *cells("bert", {1: 0.6, 2: 0.61})])])
    (panel,) = learning_curves(study).panels
    assert panel.curves[0].x == [10, 30, 100]
    (table,) = published(study).tables
    row = next(row for row in table.rows if row[:2] == ("bert", "rte"))
    assert row[table.header.index("ours")].startswith("60.5")


def test_a_joint_system_of_a_second_run_is_measured_against_its_own_run(tmp_path):
    runs = []
    for name, shift in (("a", 0.0), ("b", 0.2)):
        alone = cells("single", {seed: value + shift for seed, value in BASE.items()}, run=f"{name}/")
        joint = cells("mt", {seed: v + shift + 0.02 for seed, v in BASE.items()}, run=f"{name}/", stage="joint")
        for each in alone + joint:
            each.result["inputs"]["stage"] |= {"objective": {"type": "standard"}, "regularizers": []}
        runs.append(Run(tmp_path, alone + joint))
    (table,) = transfer(Study(runs)).tables
    columns = [table.header.index(name) for name in ("system", "alone", "against alone")]
    found = {row[columns[0]]: tuple(row[at] for at in columns[1:]) for row in table.rows}
    assert found["b/mt · joint"] == ("b/single · finetune", "+2.0")


def test_one_joint_model_is_told_through_the_stages_between(tmp_path):
    better = above([2.0, 2.1, 1.9, 2.0, 2.1])
    chained = [cell("chained", seed, value, upstream=f"finetune {seed}") for seed, value in better.items()]
    for each in chained:
        each.result["root"] = "chained/joint/joint/full/1"
    (found,) = compared(tmp_path, cells("standard", BASE), chained).found
    assert found.one_start


def test_a_baseline_that_was_chosen_on_validation_is_told_too(tmp_path):
    standard = cells("standard", BASE)
    standard[0].result["inputs"]["train"] = {"select": "best"}
    found = compared(tmp_path, standard, cells("smart", above([2.0, 2.1, 1.9, 2.0, 2.1]))).found
    assert "chosen on the validation split" in comparison_table(found).note


def test_all_of_the_data_is_one_setting_however_it_was_said(tmp_path):
    smart = cells("smart", above([1, 2, 1, 2, 1]), fraction=1.0, stage="adapt")
    found = compared(tmp_path, cells("standard", BASE), smart, cells("half", BASE, fraction=0.5))
    assert [(each.a.system, each.b.system) for each in found.found] == [("standard", "smart")]


def test_seeds_of_one_experiment_on_two_machines_are_compared_on_each(tmp_path):
    runs = []
    for name, seeds in (("a", (1, 2, 3)), ("b", (4, 5))):
        (tmp_path / name).mkdir()
        made = [
            cell(system, seed, 0.5 + seed / 100, run=f"{name}/") for system in ("standard", "smart") for seed in seeds
        ]
        runs.append(Run(tmp_path / name, made))
    found = against_baseline(Study(runs))
    assert [(each.a.system, each.b.system) for each in found.found] == [
        ("a/standard", "a/smart"),
        ("b/standard", "b/smart"),
    ]
    assert found.left_out == ["b/standard on rte: no seed in common: a/standard has 1, 2, 3, b/standard 4, 5"]


def test_a_second_run_is_compared_with_the_first_run_s_baseline(tmp_path):
    runs = [Run(tmp_path, cells("standard", BASE, run="a/")), Run(tmp_path, cells("smart", BASE, run="b/"))]
    assert [(each.a.system, each.b.system) for each in against_baseline(Study(runs)).found] == [
        ("a/standard", "b/smart")
    ]


def test_seeds_that_start_from_one_model_say_so(tmp_path):
    better = above([2.0, 2.1, 1.9, 2.0, 2.1])
    one, each = cells("one", better, upstream="x"), [cell("each", k, v, upstream=f"{k}") for k, v in better.items()]
    first, second = compared(tmp_path, cells("standard", BASE), one, each).found
    assert "the seeds start from one model, whose own variation is not in it" in first.sentence()
    assert "start from one model" not in second.sentence()
    table = comparison_table([first, second])
    column = HEADER.index("verdict")
    assert [row[column] for row in table.rows] == ["over seeds*", "over seeds"]
    assert "* The seeds start from one model" in table.note
    assert "start from one model" not in comparison_table([second]).note


def test_many_comparisons_are_all_named(tmp_path):
    clear = [cells(f"good{k}", above([2.0 + k / 10, 2.1, 1.9, 2.0, 2.1])) for k in range(13)]
    noise = [cells(f"noise{k}", above([k - 1.0, 1.0 - k, -0.4, 0.1, -0.3])) for k in range(2)]
    told = verdicts(compared(tmp_path, cells("standard", BASE), *clear, *noise, cells("once", {1: 0.6})))
    assert sum("resolved over seeds, +" in each for each in told) == 12
    assert "And 1 more are resolved; the table has them all." in told
    assert "Not resolved: noise0 on rte, noise1 on rte." in told
    assert "One seed: once on rte." in told


def test_the_other_metrics_have_their_differences_and_no_verdict(tmp_path):
    pairs = [{seed: {"accuracy": v, "f1": v + 0.1 + seed * k} for seed, v in BASE.items()} for k in (0.0, 0.01)]
    study = Study([Run(tmp_path, [*cells("standard", pairs[0]), *cells("smart", pairs[1])])])
    (table,) = [each for each in differences(study).tables if each.name == "differences-other-metrics"]
    assert [row[:7] for row in table.rows] == [
        ("rte", "", "standard · finetune", "smart · finetune", "validation", "f1", "+3.0")
    ]


def test_unequal_numbers_of_seeds_are_both_told_and_the_note_tells_no_rows_that_are_not_there(tmp_path):
    made = cells("standard", BASE)
    made[0].result["metrics"]["rte"]["test"] = {"values": {"accuracy": 0.5}}
    assert results_table(lines([each.result for each in made])).rows[0][-2] == "5 and 1"
    (table,) = results(Study([Run(tmp_path, made)])).tables
    assert "No model" not in table.note


def test_the_results_have_the_mean_interval_over_examples_of_the_split_that_decides():
    made = cells("standard", {1: {"accuracy": 0.5, "f1": 0.4}, 2: {"accuracy": 0.6, "f1": 0.4}})
    for each, ends in zip(made, ([-0.02, 0.56], [0.0, 0.66]), strict=True):
        each.result["metrics"]["rte"]["validation"]["interval_95"] = ends
    found = [each.result for each in made]
    table = results_table(lines(found, all_metrics=True))
    assert [(row[4], row[-1]) for row in table.rows] == [("accuracy", "−1.0 to 61.0"), ("f1", "")]
    made[0].result["metrics"]["rte"]["test"] = {"values": {"accuracy": 0.7}, "interval_95": [0.65, 0.75]}
    assert results_table(lines(found)).rows[0][-1] == "65.0 to 75.0"


def test_a_damaged_result_is_named(tmp_path):
    folder = write_run(tmp_path / "run", {"plain": 0.5}, seeds=(1,), fractions=(0.1,))
    path = folder / "plain/adapt/nli/0.1/1/results.json"
    whole = path.read_text()
    path.write_text(whole[:30])
    with pytest.raises(DataError, match=r"plain/adapt/nli/0.1/1/results.json is damaged"):
        read_run(folder)
    path.write_text(whole)
    (folder / "experiment.json").write_text('{"name": ')
    with pytest.raises(DataError, match=r"experiment\.json is damaged"):
        read_run(folder)
    (folder / "experiment.json").write_text('{"planned": null}')
    assert Run(folder, []).planned == []


def test_two_systems_with_other_examples_are_refused(tmp_path):
    folders = [write_run(tmp_path / name, {"plain": 0.5}, fractions=(0.1,)) for name in "ab"]
    for name, folder in zip("ab", folders, strict=True):
        for path in folder.glob("plain/adapt/nli/0.1/*/results.json"):
            stored = json.loads(path.read_text())
            stored["inputs"]["content"] = {"nli/test": name}
            path.write_text(json.dumps(stored))
    with pytest.raises(ConfigError, match="not evaluated on the same test examples"):
        compare_systems(folders[0] / "plain", folders[1] / "plain")
    assert not against_baseline(Study(read_runs(folders))).found


def test_a_published_figure_is_judged_only_beside_its_own_encoder(tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps({"name": "smart-table4-ablation"}))
    made = cells("bert", {1: 0.63, 2: 0.64, 3: 0.635}) + cells("smart", {1: {"matthews_corrcoef": 0.0}})
    own = {"path": "google-bert/bert-base-uncased"}
    for each in made[:3]:
        each.result["inputs"]["encoder"] = own
    (table,) = published(Study([Run(tmp_path, made)])).tables
    columns = [table.header.index(name) for name in ("system", "task", "ours", "95 % of ours", "inside")]
    found = {tuple(row[at] for at in columns[:2]): tuple(row[at] for at in columns[2:]) for row in table.rows}
    assert found["bert", "rte"] == ("63.5 ± 0.5", "62.3 to 64.7", "yes")
    assert found["bert", "mnli"] == ("not run", "", "")
    for each in made[:3]:
        each.result["inputs"]["encoder"] = {"path": "package:minilm/model"}
    (table,) = published(Study([Run(tmp_path, made)])).tables
    assert next(row for row in table.rows if row[:2] == ("bert", "rte"))[-2] == "other encoder"


FIGURES = {
    "source": "a paper, table 1",
    "encoder": "tiny",
    "split": "validation",
    "figures": [{"system": name, "task": "rte", "metric": "accuracy", "value": 57} for name in ("own", "v0", "none")],
}


def run_with_figures(folder, system, figures=FIGURES, *, run="", name="mine"):
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps({"name": name, "published": figures}))
    return Run(folder, cells(system, BASE, run=run))


def test_a_run_s_own_figures_stand_beside_it(tmp_path):
    (table,) = published(Study([run_with_figures(tmp_path / "a", "own")])).tables
    ours = table.header.index("ours")
    assert table.name == "published-mine"
    assert [(row[0], row[ours]) for row in table.rows] == [
        ("own", "57.0 ± 0.3"),
        ("v0", "not run"),
        ("none", "not run"),
    ]
    assert published(Study([run_with_figures(tmp_path / "b", "own", None, name="smart-table5-multitask")])) is None
    damaged = run_with_figures(tmp_path / "c", "own", {"source": "?"})
    with pytest.raises(DataError, match=r"experiment\.json: published is damaged"):
        published(Study([damaged]))


def test_runs_of_one_experiment_have_one_table_and_other_figures_another(tmp_path):
    runs = [run_with_figures(tmp_path / name, name, run=f"{name}/") for name in ("own", "v0")]
    section = published(Study(runs))
    (table,) = section.tables
    ours = table.header.index("ours")
    assert section.text == ["a paper, table 1"]
    assert [(row[0], row[ours] == "not run") for row in table.rows] == [
        ("own/own", False),
        ("v0/v0", False),
        ("none", True),
    ]
    again = run_with_figures(tmp_path / "again", "own", run="again/")
    (both,) = published(Study([runs[0], again])).tables
    assert [row[0] for row in both.rows] == ["own/own", "again/own", "v0", "none"]
    changed = run_with_figures(tmp_path / "changed", "own", {**FIGURES, "source": "another"}, run="changed/")
    assert len(published(Study([*runs, changed])).tables) == 2


def test_a_fault_in_a_shipped_file_of_figures_is_told(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("name: mine\nencoder: {path: tiny}\nsystems: {}\n")
    (tmp_path / "mine.published.yaml").write_text("source: x\n")
    monkeypatch.setattr("mtdnn.published.shipped", lambda folder: tmp_path)
    (tmp_path / "experiment.json").write_text(json.dumps({"name": "mine"}))
    with pytest.raises(ConfigError, match="key 'encoder' is missing"):
        published(Study([Run(tmp_path, cells("own", BASE))]))
