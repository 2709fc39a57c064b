"""``mtdnn report`` and ``mtdnn compare``"""

from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs: runs/<name> ...")],
    out: Annotated[Path | None, typer.Option(help="Where it goes; <first run>/report by default.")] = None,
    texts: Annotated[
        bool, typer.Option(help="Show examples with their texts; without, the report holds none of the data.")
    ] = True,
) -> None:
    """Tables, figures and one page of one or more runs, with tests of what separates the systems."""
    from mtdnn.cli.terminal import console
    from mtdnn.report.write import write_report

    written = write_report(runs, out or runs[0] / "report", texts=texts)
    page = written[0]
    console.print(f"wrote {page} and {len(written) - 1} files beside it", markup=False, highlight=False, soft_wrap=True)


def compare(
    a: Annotated[str, typer.Argument(help="A system of a run, runs/<name>/<system>: what is compared with.")],
    b: Annotated[str, typer.Argument(help="Another, of the same run or another one.")],
    out: Annotated[Path | None, typer.Option(help="Write the table with all its columns here, as CSV.")] = None,
) -> None:
    """The paired test between two systems: the same tasks, fractions and seeds, the same examples."""
    from mtdnn.cli.terminal import console, table_of
    from mtdnn.report.comparison import brief_table, comparison_table
    from mtdnn.report.pairing import compare_systems
    from mtdnn.report.sections.results import not_compared, one_model
    from mtdnn.report.table import write_csv

    compared = compare_systems(Path(a), Path(b))
    table = brief_table(compared.found)
    console.print(table_of(table.header, table.rows, title=table.title))
    told = [*one_model(compared.shared), *not_compared(compared.left_out)]
    for each in [*(one.sentence() for one in compared.found), *told]:
        console.print(each, markup=False, highlight=False, soft_wrap=True)
    console.print(table.note, markup=False, highlight=False, soft_wrap=True)
    if out:
        written = write_csv(comparison_table(compared.found), out)
        console.print(f"wrote {written}", markup=False, highlight=False, soft_wrap=True)
