"""``mtdnn methods``"""

from typing import Annotated

import typer

app = typer.Typer(help="Objectives, regularizers and samplers.", no_args_is_help=True)


@app.command("list")
def list_methods() -> None:
    """Every method by kind."""
    from mtdnn.cli.show import console, table_of
    from mtdnn.methods import all_methods

    rows = [(method.kind, method.name, method.summary, ", ".join(method.presets)) for method in all_methods()]
    console.print(table_of(("kind", "name", "what it does", "presets"), rows))


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A method, such as smart.")]) -> None:
    """A method's source, options with their defaults, and presets."""
    from mtdnn.cli.show import console, table_of
    from mtdnn.methods import find_method

    method = find_method(name)
    console.print(f"{method.kind} {method.name}\n\n{method.text}\n", markup=False, highlight=False)
    header = ("option", "default", *method.presets)
    console.print(table_of(header, method.option_rows()))
