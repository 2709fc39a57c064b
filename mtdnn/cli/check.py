"""``mtdnn check``"""

from typing import Annotated

import typer

from mtdnn.cli.options import BadRows, DataDir, TaskDefs, task_folder


def check(
    tasks: Annotated[list[str] | None, typer.Argument(help="Tasks to check; all with data at hand by default.")] = None,
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    bad_rows: BadRows = None,
) -> None:
    """Validate task definitions and their data: every fault, label balance, lengths, repeats, contradictions, leaks."""
    from mtdnn.checks import check_tasks
    from mtdnn.cli.terminal import console, table_of
    from mtdnn.errors import ConfigError, DataError
    from mtdnn.tasks import load_tasks

    registry = load_tasks(task_folder(task_defs))
    found = check_tasks(registry, tasks, data_dir=data_dir, bad_rows="stop" if bad_rows is None else bad_rows.value)
    header = ("task", "split", "rows", "units", "left out", "bad", "words p50/p99", "duplicates", "leaks", "targets")
    if found.reports:
        console.print(table_of(header, [report.cells() for report in found.reports]))
    for line in found.shared:
        console.print(line, markup=False, highlight=False)
    if found.skipped:
        console.print(f"no data at hand for: {', '.join(found.skipped)}")
    for warning in found.warnings:
        console.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if found.wrong:
        raise ConfigError("\n".join([*found.wrong, *found.faults]))
    if found.faults:
        raise DataError("\n".join(found.faults))
