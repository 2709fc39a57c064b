"""``mtdnn evaluate``"""

from pathlib import Path
from typing import Annotated

import typer

from mtdnn.cli.options import DataDir, Precision, PrecisionOption, TaskDefs, task_folder


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder of a run: runs/<name>/.../model")],
    task: Annotated[str, typer.Option(help="The task, with a head in the model.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    task_defs: TaskDefs = None,
    data_dir: DataDir = None,
    remap_labels: Annotated[
        bool, typer.Option("--remap-labels", help="The definition's labels are the model's in another order.")
    ] = False,
    precision: PrecisionOption = Precision.FP32,
    out: Annotated[Path | None, typer.Option(help="Write the predictions here, as JSON lines.")] = None,
) -> None:
    """Metrics of a model on one split, with 95 % bootstrap intervals."""
    from mtdnn.cli.terminal import console, open_log, table_of
    from mtdnn.evaluate import bootstrap
    from mtdnn.files import write_lines
    from mtdnn.metrics.base import METRICS
    from mtdnn.predictor import Predictor
    from mtdnn.tasks import load_tasks

    open_log()
    predictor = Predictor.load(model, precision=precision.value)
    definition = load_tasks(task_folder(task_defs)).find(task, where="--task")
    found = predictor.evaluate(definition, split, data_dir=data_dir, remap_labels=remap_labels)
    counted = f"{len(found.uids)} units"
    if found.num_counted < len(found.uids):
        counted = f"{found.num_counted} of {counted}: those with both right and wrong answers"
    rows = []
    for name, value in found.metrics.items():
        low, high = bootstrap(METRICS.get(name, where="metrics"), found)
        rows.append((name, f"{100 * value:.2f}", f"{100 * low:.2f} to {100 * high:.2f}"))
    console.print(
        table_of(
            (f"{task} {split}", "x 100", "95 % interval"),
            rows,
            title=counted,
        )
    )
    if out is not None:
        write_lines(out, found.rows())
        console.print(f"predictions: {out}")
