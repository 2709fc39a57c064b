"""Joint training against single-task training: with which system a joint one is compared, and at how many updates."""

from pathlib import Path

import pytest

from mtdnn.report.sections.transfer import OTHER, transfer
from mtdnn.report.study import Study
from mtdnn.report.updates import Updates, updates_of
from mtdnn.runs import FinishedCell, Run

SMART = [{"type": "smart"}]


def cell(system, kind, *, accuracy, methods=(), seed=1, steps=10, tasks=("nli",), start=None, **facts):
    """A cell that starts from its system's stage ``start``."""
    stage = {"kind": kind, "objective": {"type": "standard"}, "regularizers": list(methods), "from_": start}
    result = {
        "system": system,
        "stage": kind,
        "tasks": list(tasks),
        "fraction": None,
        "seed": seed,
        "metrics": {task: {"validation": {"values": {"accuracy": accuracy}}} for task in tasks},
        "steps": steps,
        "inputs": {"stage": stage | facts.pop("stage", {}), "upstream": start, "train": {"accumulate": 1}},
        **facts,
    }
    return FinishedCell(Path(system, kind, *tasks, str(seed)), system, result)


def table_of(*cells):
    (table,) = transfer(Study([Run(Path(), cells)])).tables
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def compared(*cells):
    """(what stands under 'alone', the difference) of each system."""
    return {row["system"]: (row["alone"], row["against alone"]) for row in table_of(*cells)}


def test_a_joint_system_is_compared_with_the_single_task_system_of_its_own_method():
    found = compared(
        cell("single", "finetune", accuracy=0.5),
        cell("smart", "finetune", accuracy=0.7, methods=SMART),
        cell("mtdnn", "joint", accuracy=0.6),
        cell("smart_mtdnn", "joint", accuracy=0.6, methods=SMART),
    )
    assert found == {
        "single · finetune": ("", ""),
        "smart · finetune": ("", ""),
        "mtdnn · joint": ("single · finetune", "+10.0"),
        "smart_mtdnn · joint": ("smart · finetune", "−10.0"),
    }


def test_another_method_is_named_where_there_is_no_single_task_system_of_the_same():
    found = compared(
        cell("single", "finetune", accuracy=0.5), cell("smart_mtdnn", "joint", accuracy=0.6, methods=SMART)
    )
    assert found["smart_mtdnn · joint"] == (f"single · finetune ({OTHER})", "+10.0")


def test_a_regularizer_of_other_tasks_is_no_other_method():
    elsewhere = [{"type": "smart", "tasks": ["sts"]}]
    found = compared(cell("single", "finetune", accuracy=0.5), cell("some", "joint", accuracy=0.6, methods=elsewhere))
    assert found["some · joint"] == ("single · finetune", "+10.0")


def joint_of_two(system, **facts):
    counted = {"steps": 30, "task_updates": {"nli": 12, "sts": 18}}
    return cell(system, "joint", accuracy=0.6, tasks=("nli", "sts"), **counted | facts)


def test_updates_of_the_task_are_added_up_over_the_stages_and_compared_with_the_nearest_of_the_method():
    rows = table_of(
        cell("single", "finetune", accuracy=0.5, steps=12),
        cell("longer", "finetune", accuracy=0.55, steps=21),
        cell("smart", "finetune", accuracy=0.7, steps=22, methods=SMART),
        joint_of_two("mtdnn"),
        cell("mtdnn", "finetune", accuracy=0.65, steps=10, start="joint"),
    )
    names = ("updates", "of other tasks", "alone", "its updates", "against alone")
    found = {row["system"]: tuple(row[name] for name in names) for row in rows if row["task"] == "nli"}
    assert found["single · finetune"] == ("12", "0", "", "", "")
    assert found["mtdnn · joint"] == ("12", "18", "single · finetune", "12, equal", "+10.0")
    assert found["mtdnn · finetune"] == ("12 + 10 = 22", "18", "longer · finetune", "21, about equal", "+10.0")


def test_a_difference_at_unequal_updates_says_so_in_the_row_and_above_the_table():
    cells = [
        cell("single", "finetune", accuracy=0.5, steps=12),
        joint_of_two("mtdnn"),
        cell("mtdnn", "finetune", accuracy=0.65, steps=10, start="joint"),
    ]
    section = transfer(Study([Run(Path(), cells)]))
    assert section.text == [
        "Of 2 differences 1 is at (about) equal updates of the task, those of other tasks aside; in the others one "
        "training is longer, or its length is not known."
    ]
    assert [row["its updates"] for row in table_of(*cells)] == ["", "12, equal", "12, unequal"]


def test_a_model_that_systems_share_is_in_the_table_once():
    joint = joint_of_two("mtdnn")
    twin = FinishedCell(joint.folder, "twin", {**joint.result, "system": "twin"})
    rows = table_of(cell("single", "finetune", accuracy=0.5), joint, twin)
    assert [row["system"] for row in rows] == ["single · finetune", "mtdnn · joint"]


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ({"sampler": {"type": "round_robin", "end": "cycle"}}, Updates(own=15, others=15, about=True)),
        ({"sampler": {"type": "proportional"}}, Updates(own=10, others=20, about=True)),
        ({"sampler": {"type": "annealed"}}, None),
    ],
)
def test_an_older_result_s_updates_are_worked_out_where_the_sampler_tells(stage, expected):
    rows = {"nli": {"trained_on": 100}, "sts": {"trained_on": 200}}
    joint = cell("mtdnn", "joint", accuracy=0.6, tasks=("nli", "sts"), steps=30, stage=stage, data=rows)
    after = cell("mtdnn", "finetune", accuracy=0.6, start="joint")
    run = Run(Path(), [joint, after])
    groups = {group.kind: group for group in Study([run]).groups if group.task == "nli"}
    assert updates_of(run, groups["joint"]) == expected
    found = updates_of(run, groups["finetune"])
    assert (found and found.shown()) == (expected and f"about {expected.own} + 10 = {expected.own + 10}")


def test_a_task_that_an_earlier_stage_did_not_have_was_not_updated_there():
    joint = joint_of_two("mtdnn", task_updates={"sts": 30}, steps=30)
    after = cell("mtdnn", "adapt", accuracy=0.6, tasks=("scitail",), steps=7, start="joint")
    (group,) = (group for group in Study([Run(Path(), [joint, after])]).groups if group.task == "scitail")
    assert updates_of(Run(Path(), [joint, after]), group) == Updates(own=7, others=30)
    assert updates_of(Run(Path(), [after]), group) is None  # the joint stage's folder is gone
