"""``mtdnn import-mtdnn``"""

from pathlib import Path
from typing import Annotated

import typer

from mtdnn.cli.options import TaskDefs, task_folder


def import_mtdnn(
    file: Annotated[Path, typer.Argument(help="A .pt file of the official MT-DNN code.")],
    out: Annotated[Path, typer.Option(help="The model folder to write.")],
    tasks: Annotated[
        str, typer.Option(help="The tasks of its heads in their order, commas between them; - leaves one out.")
    ] = "",
    encoder: Annotated[
        str | None, typer.Option(help="Hub id or folder with the encoder's configuration and tokenizer.")
    ] = None,
    task_defs: TaskDefs = None,
) -> None:
    """An official MT-DNN checkpoint as a model folder; without --tasks its encoder alone."""
    from mtdnn.cli.terminal import console, open_log
    from mtdnn.interop.import_mtdnn import import_checkpoint
    from mtdnn.tasks import load_tasks

    open_log()
    registry = load_tasks(task_folder(task_defs))
    folder, told = import_checkpoint(file, tasks=tasks, encoder=encoder, out=out, registry=registry)
    for line in [*(f"- {each}" for each in told), f"wrote {folder}. To start an experiment from it:"]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"  mtdnn run EXPERIMENT --set encoder.path={folder}", markup=False, highlight=False, soft_wrap=True)
