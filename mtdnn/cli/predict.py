"""``mtdnn predict``"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mtdnn.cli.options import Choice, Precision, PrecisionOption


class Format(StrEnum):
    """What can be read from beginning to end, and so from standard input too."""

    TXT = "txt"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder of a run: runs/<name>/.../model")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="JSON lines, CSV, TSV or Parquet; a .txt, a text a line; or - for standard input."
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(help="One task, several with commas between them, or all; not needed where the model has one."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write here, a .jsonl or .csv, instead of JSON lines to standard output.")
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="Of the input; by default what its name says, and jsonl for standard input.")
    ] = None,
    bad_rows: Annotated[
        Choice,
        typer.Option(
            "--bad-rows",
            help="stop names all bad rows, before it predicts those of a file; skip leaves them out, and tells each "
            "other row's place.",
        ),
    ] = Choice.STOP,
    precision: PrecisionOption = Precision.FP32,
) -> None:
    """Predict every row of a file or of standard input, in its order, window by window, in constant memory."""
    import sys

    from tqdm import tqdm

    from mtdnn.cli.terminal import open_log, print_lines
    from mtdnn.data.formats import STDIN
    from mtdnn.errors import ConfigError
    from mtdnn.new_texts import NewTexts
    from mtdnn.prediction_files import check_name, json_lines, write_predictions
    from mtdnn.predictor import Predictor

    open_log()
    if out is not None:
        check_name(out)
        if source != STDIN and out.resolve() == source.resolve():
            raise ConfigError(f"--out {out}: that is the input; give another name")
    predictor = Predictor.load(model, precision=precision.value)
    tasks = predictor.tasks(task.split(",") if task else None)
    texts = NewTexts.of_file(source, tasks, format=format and format.value, bad_rows=bad_rows.value)
    total = None if source == STDIN else texts.count()
    shown = None if out is not None or not sys.stdout.isatty() else True  # None: where standard error is a terminal
    rows = tqdm(predictor.predict_stream(texts), total=total, unit="row", disable=shown)
    if out is not None:
        write_predictions(out, rows)
    else:
        print_lines(json_lines(rows))
