"""``mtdnn submit``"""

from pathlib import Path
from typing import Annotated

import typer

from mtdnn.cli.options import DataDir, TaskDefs, task_folder


def submit(
    run: Annotated[Path, typer.Argument(help="A run's folder, such as runs/<name>")],
    system: Annotated[str | None, typer.Option(help="Whose models; needed where the run has several systems.")] = None,
    stage: Annotated[list[str], typer.Option(help="Models of this stage alone; may be given several times.")] = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(help="Models of this seed; needed where a task has several.")] = None,
    wnli_majority: Annotated[
        bool, typer.Option("--wnli-majority", help="WNLI's most frequent answer, not_entailment, instead of a model's.")
    ] = False,
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="The zip to write.")] = Path("submission.zip"),
) -> None:
    """The zip for the GLUE server: every official test split, by the task's own model or else the joint one."""
    from mtdnn.cli.terminal import console, open_log, table_of
    from mtdnn.interop.glue_submission import submit as write_submission
    from mtdnn.tasks import load_tasks

    open_log()
    written = write_submission(
        run,
        out,
        registry=load_tasks(task_folder(task_defs)),
        data_dir=data_dir,
        system=system,
        stages=stage,
        seed=seed,
        majority=wnli_majority,
    )
    rows = [(each.name, each.rows, each.empty or "", each.origin) for each in written]
    console.print(table_of(("file", "rows", "empty texts", "answers by"), rows))
    console.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)
