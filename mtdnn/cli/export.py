"""``mtdnn export``"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Target(StrEnum):
    """What a model can become."""

    HF = "hf"
    ONNX = "onnx"


def export(
    model: Annotated[Path, typer.Argument(help="A model folder of a run: runs/<name>/.../model")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    to: Annotated[
        Target, typer.Option(help="hf: a stock sequence classifier of transformers; onnx: a graph for onnxruntime.")
    ],
    task: Annotated[
        str, typer.Option(help="One task; for onnx several with commas between them, or none for every head.")
    ] = "",
) -> None:
    """A trained model for programs that do not know mtdnn; the same numbers come out, or it is refused."""
    from mtdnn.cli.terminal import console, open_log

    open_log()
    names = [name.strip() for name in task.split(",")] if task.strip() else []
    if to is Target.HF:
        from mtdnn.interop.export_hf import export_hf

        export_hf(model, out, tasks=names)
    else:
        from mtdnn.interop.export_onnx import export_onnx

        export_onnx(model, out, tasks=names)
    console.print(f"wrote {out}", markup=False, highlight=False, soft_wrap=True)
