"""Joint training against single-task training: with which system a joint one is compared."""

from pathlib import Path

from mtdnn.report.sections.transfer import OTHER, transfer
from mtdnn.report.study import Study
from mtdnn.runs import FinishedCell, Run

SMART = [{"type": "smart"}]


def cell(system, kind, *, accuracy, methods=(), seed=1):
    stage = {"kind": kind, "objective": {"type": "standard"}, "regularizers": list(methods)}
    result = {
        "system": system,
        "stage": kind,
        "tasks": ["nli"],
        "fraction": None,
        "seed": seed,
        "metrics": {"nli": {"validation": {"values": {"accuracy": accuracy}}}},
        "steps": 10,
        "inputs": {"stage": stage, "upstream": None},
    }
    return FinishedCell(Path(system, kind, str(seed)), system, result)


def compared(*cells):
    """(what stands under 'alone', the difference) of each system."""
    section = transfer(Study([Run(Path(), cells)]))
    (table,) = section.tables
    columns = [table.header.index(name) for name in ("system", "alone", "against alone")]
    return {row[columns[0]]: (row[columns[1]], row[columns[2]]) for row in table.rows}


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
