"""``mtdnn methods``"""

from typing import Annotated

import typer

app = typer.Typer(help="Objectives, regularizers and samplers.", no_args_is_help=True)


@app.command("list")
def list_methods() -> None:
    """Every method by kind."""
    from mtdnn.cli.terminal import console, table_of
    from mtdnn.method_docs import all_methods

    rows = [(method.kind, method.name, method.summary, ", ".join(method.presets)) for method in all_methods()]
    console.print(table_of(("kind", "name", "what it does", "presets"), rows))


@app.command("show")
def show(name: Annotated[str, typer.Argument(help="A method, such as smart.")]) -> None:
    """A method's equation, source, cost, options, and how its presets differ from their papers."""
    from mtdnn.cli.terminal import console, table_of
    from mtdnn.method_docs import find_method

    method = find_method(name)
    cost = f"Cost: {method.cost}.\n\n" if method.cost else ""
    text = f"{method.kind} {method.name}\n\n{method.source}\n\n{method.definition}\n\n{cost}"
    console.print(text, markup=False, highlight=False, end="")
    texts = method.option_texts
    rows = [(option, default, texts.get(option, "")) for option, default in method.options.items()]
    console.print(table_of(("option", "default", "meaning"), rows))
    if method.presets:
        changed = {name: ", ".join(f"{k}: {v}" for k, v in preset.items()) for name, preset in method.presets.items()}
        presets = [(preset, options, method.notes.get(preset, "")) for preset, options in changed.items()]
        console.print(table_of(("preset", "options", "what it is, and how it differs from its paper"), presets))


@app.command("compare")
def compare(
    first: Annotated[str, typer.Argument(help="A preset, such as paper; or defaults.")],
    second: Annotated[str, typer.Argument(help="Another, such as official-2020-08.")],
    of: Annotated[str | None, typer.Option(help="The method, where several have both presets.")] = None,
) -> None:
    """Where two presets of a method differ, option by option, and what each of them is."""
    from mtdnn.cli.terminal import console, table_of
    from mtdnn.method_docs import find_method, with_presets

    for method in [m for m in with_presets(first, second) if of is None or m.name == find_method(of).name]:
        rows = method.differences(first, second)
        console.print(table_of(("option", first, second, "meaning"), rows, title=f"{method.kind} {method.name}"))
        for preset in (first, second):
            if preset in method.notes:
                console.print(f"{preset}: {method.notes[preset]}\n", markup=False, highlight=False)
