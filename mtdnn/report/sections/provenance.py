"""What was run, on what, with which versions."""

from collections.abc import Mapping
from typing import Any

from mtdnn.report.study import Section, Study
from mtdnn.report.table import Table


def provenance(study: Study) -> Section:
    methods = Table(
        name="stages",
        title="Systems and their stages",
        header=("system", "stage", "kind", "tasks", "objective", "regularizers", "sampler"),
        rows=list(dict.fromkeys(stage_row(cell.system, cell.result) for cell in study.cells)),
    )
    versions = Table(
        name="versions",
        title="Versions",
        header=("what", "version"),
        rows=sorted({(name, text) for cell in study.cells for name, text in cell.result["versions"].items()}),
    )
    training = Table(
        name="training-options",
        title="Training, encoder and data",
        header=("option", "values"),
        rows=option_rows([each for cell in study.cells for each in options_of(cell.result["inputs"])]),
    )
    seconds = sum(cell.result["wall_seconds"] for cell in study.cells if "same_as" not in cell.result)
    text = [run.experiment["description"] for run in study.runs if run.experiment.get("description")]
    text.append(f"{len(study.cells)} cells, {seconds / 3600:.2f} hours of work in all.")
    return Section(
        name="provenance", title="Configuration and versions", text=text, tables=[methods, training, versions]
    )


def stage_row(system: str, result: Mapping[str, Any]) -> tuple[str, ...]:
    stage = result["inputs"]["stage"]
    regularizers = ", ".join(options_text(options) for options in stage["regularizers"])
    return (
        system,
        result["stage"],
        stage["kind"],
        ", ".join(stage["tasks"]),
        options_text(stage["objective"]),
        regularizers or "none",
        options_text(stage["sampler"]) if stage["kind"] == "joint" else "",
    )


def options_text(options: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{key} {value}" for key, value in options.items() if key != "type")
    return f"{options.get('type')}" + (f" ({rest})" if rest else "")


def options_of(inputs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The training options, the encoder's and the data's."""
    rest = {f"{part}.{name}": value for part in ("encoder", "data") for name, value in inputs.get(part, {}).items()}
    return [inputs["train"], rest]


def option_rows(all_options: list[Mapping[str, Any]]) -> list[tuple[str, str]]:
    names = dict.fromkeys(name for options in all_options for name in options)
    return [
        (name, ", ".join(dict.fromkeys(str(options[name]) for options in all_options if name in options)))
        for name in names
    ]
