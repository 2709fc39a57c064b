"""``mtdnn analyse``"""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The papers' analyses: losses, nearest words, layers.", no_args_is_help=True)


@app.command("figure1")
def figure1(
    out: Annotated[Path, typer.Option(help="The folder of the numbers and the plot.")] = Path("runs/analysis"),
    radius: Annotated[float, typer.Option(help="The largest change of the score by a perturbation.")] = 0.5,
    weight: Annotated[float, typer.Option(help="The weight of either term, lambda.")] = 1.0,
    limit: Annotated[float, typer.Option(help="Margins from -limit to limit.")] = 4.0,
    step: Annotated[float, typer.Option(help="The distance of two margins.")] = 0.1,
) -> None:
    """What a wrong label costs: adversarial training against smoothness (SMART, figure 1)."""
    from mtdnn.analysis.noisy_label import HEADER, composite_losses, margins, panel, sample, table
    from mtdnn.cli.show import print_figure
    from mtdnn.cli.terminal import console, table_of
    from mtdnn.report.table import Table, write_csv

    margin_U = margins(limit=limit, step=step)
    rows = table(margin_U, composite_losses(margin_U, radius=radius, weight=weight))
    shown = [[f"{row[0]:.4g}", *(f"{value:.3f}" for value in row[1:])] for row in sample(rows)]
    title = f"loss of one label; radius {radius:g}, weight {weight:g}"
    console.print(table_of(HEADER, shown, title=title))
    numbers = Table(name="figure1", title=title, header=HEADER, rows=rows)
    print_figure(write_csv(numbers, out / "figure1.csv"), [panel(rows)])


@app.command("neighbours")
def neighbours(
    model: Annotated[Path, typer.Argument(help="A model folder of a run: runs/<name>/.../model")],
    text: Annotated[str, typer.Option(help="The text that the word stands in.")],
    word: Annotated[str, typer.Option(help="The word whose neighbours are wanted.")],
    text_b: Annotated[str | None, typer.Option(help="The second text of a pair.")] = None,
    method: Annotated[str, typer.Option(help="A regularizer that perturbs: rapt, smart, r3f, vat.")] = "rapt",
    settings: Annotated[list[str], typer.Option("--set", help="option=value of the method; preset=NAME too.")] = [],  # noqa: B006
    layer: Annotated[
        str | None, typer.Option(help="embeddings, word or a layer's number; the method's own by default.")
    ] = None,
    among: Annotated[
        Path | None, typer.Option(help="A data file, whose words are compared in context; else the vocabulary.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Whose output and columns; the model's first by default.")] = None,
    top: Annotated[int, typer.Option(help="How many words.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the perturbation.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the table here, as CSV.")] = None,
) -> None:
    """The words nearest to a word before and after a perturbation (RAPT, tables 4 to 6)."""
    from mtdnn.analysis.neighbours import CSV_HEADER, HEADER, find_neighbours
    from mtdnn.cli.terminal import console, open_log, table_of
    from mtdnn.predictor import Predictor
    from mtdnn.report.table import Table, write_csv

    open_log()
    found = find_neighbours(
        Predictor.load(model),
        (text, text_b),
        word=word,
        method=method,
        settings=settings,
        layer=layer,
        task=task,
        among=among,
        top=top,
        seed=seed,
    )
    rows = [(rank, a, f"{old:.4f}", b, f"{new:.4f}") for rank, a, old, b, new in found.rows()]
    title = f"nearest to '{found.word}' at {found.site}, {found.method}"
    console.print(table_of(HEADER, rows, title=title))
    console.print(found.summary(), markup=False, highlight=False)
    if out is not None:
        numbers = Table(name="neighbours", title=title, header=CSV_HEADER, rows=found.csv_rows())
        console.print(f"wrote {write_csv(numbers, out)}", markup=False, highlight=False)


@app.command("max-layer")
def max_layer(
    run: Annotated[Path, typer.Argument(help="A run's folder, such as runs/rapt-figures-max-layer")],
    out: Annotated[Path | None, typer.Option(help="The folder of the numbers and the plot; the run's else.")] = None,
) -> None:
    """The metric by RAPT's max_layer, from the results of a run (RAPT, figures 2 and 3)."""
    from mtdnn.analysis.max_layer import CSV_HEADER, HEADER, csv_rows, panels, points_of, rows
    from mtdnn.cli.show import print_figure
    from mtdnn.cli.terminal import console, table_of
    from mtdnn.report.table import Table, write_csv
    from mtdnn.runs import read_run

    points = points_of(read_run(run).results)
    title = "mean ± sd over n seeds, x 100"
    console.print(table_of(HEADER, rows(points), title=title))
    numbers = Table(name="max_layer", title=title, header=CSV_HEADER, rows=csv_rows(points))
    print_figure(write_csv(numbers, (out or run) / "max_layer.csv"), panels(points))
