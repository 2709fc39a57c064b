"""``mtdnn tasks``"""

from pathlib import Path
from typing import Annotated

import typer

from mtdnn.cli.options import TaskDefs, task_folder

app = typer.Typer(help="Task definitions.", no_args_is_help=True)


@app.command("list")
def list_tasks(task_defs: TaskDefs = None) -> None:
    """Every task: kind, labels, metrics and where its data can come from."""
    from mtdnn.cli.terminal import console, table_of
    from mtdnn.tasks import LAYOUTS, load_tasks

    rows = [
        (
            task.name,
            task.kind,
            ", ".join(task.label_names),
            ", ".join(task.metrics),
            ", ".join(layout for layout in LAYOUTS if getattr(task.data, layout) is not None),
        )
        for task in load_tasks(task_folder(task_defs)).values()
    ]
    console.print(table_of(("task", "kind", "labels", "metrics", "data"), rows))


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A task.")], task_defs: TaskDefs = None) -> None:
    """A task's whole definition, `extends` resolved."""
    import yaml

    from mtdnn.cli.terminal import console
    from mtdnn.tasks import load_tasks

    task = load_tasks(task_folder(task_defs)).find(name, where="tasks show")
    content = task.model_dump(mode="json", exclude_defaults=True)
    console.print(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), markup=False, highlight=False)


@app.command("new")
def new(
    data: Annotated[Path, typer.Option(help="A CSV, TSV, JSON lines or Parquet file of yours.")],
    name: Annotated[str | None, typer.Option(help="The task's name; the file's by default.")] = None,
    text_a: Annotated[str | None, typer.Option(help="The column of the (first) text.")] = None,
    text_b: Annotated[str | None, typer.Option(help="The column of the second text.")] = None,
    target: Annotated[str | None, typer.Option(help="The column of the label or score.")] = None,
    kind: Annotated[str | None, typer.Option(help="classification or regression.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the definition goes.")] = Path("task_defs"),
    holdout: Annotated[float, typer.Option(help="Share of rows for validation, and as much for test.")] = 0.1,
) -> None:
    """Look at a data file, guess what is not said, and write the task definition."""
    from mtdnn.cli.terminal import console
    from mtdnn.new_task import write_definition

    path, choices = write_definition(
        data, name=name, text_a=text_a, text_b=text_b, target=target, kind=kind, folder=folder, holdout=holdout
    )
    for choice in choices:
        console.print(f"- {choice}", markup=False, highlight=False)
    console.print(f"wrote {path}. Look it over, then:", markup=False, highlight=False)
    console.print(f"  mtdnn check {path.stem} --task-defs {folder}", markup=False, highlight=False)
    console.print(
        f"  mtdnn run own_task --task-defs {folder} --set 'stages.finetune.tasks=[{path.stem}]' --out runs/{path.stem}",
        markup=False,
        highlight=False,
    )


@app.command("import")
def import_official(
    file: Annotated[Path, typer.Argument(help="A *_task_def.yml of the official MT-DNN repository.")],
    out: Annotated[Path, typer.Option(help="Where the definitions go.")] = Path("task_defs"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace definitions that are there.")] = False,
) -> None:
    """Write a definition for each task of an official file, and tell what cannot be carried over."""
    from mtdnn.cli.terminal import console
    from mtdnn.interop.import_tasks import import_tasks

    paths, told = import_tasks(file, folder=out, overwrite=overwrite)
    names = " ".join(path.stem for path in paths)
    for line in [
        *(f"- {each}" for each in told),
        f"wrote {', '.join(map(str, paths))}. With the folder of the official prepared files (canonical_data):",
        f"  mtdnn check {names} --task-defs {out} --data-dir DIR",
    ]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
