"""``mtdnn predict``"""

from pathlib import Path
from typing import Annotated

import typer

from mtdnn.cli.options import Precision


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder of a run: runs/<name>/.../model")],
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="JSON lines, CSV, TSV or Parquet; or a .txt, a text a line.")
    ],
    task: Annotated[str, typer.Option(help="One task, or several with commas between them.")],
    out: Annotated[Path | None, typer.Option(help="Write here instead of to standard output.")] = None,
    precision: Annotated[
        Precision, typer.Option(help="bf16, or auto for bf16 where the hardware is faster with it.")
    ] = Precision.FP32,
) -> None:
    """Predict every row of a file, in its order; one JSON object a row."""
    from mtdnn.cli.terminal import open_log, print_json
    from mtdnn.files import write_lines
    from mtdnn.predictor import Predictor

    open_log()
    predictor = Predictor.load(model, precision=precision.value)
    rows = predictor.predict_file(source, tasks=[name.strip() for name in task.split(",")])
    if out is not None:
        write_lines(out, rows)
        return
    for row in rows:
        print_json(row)
