"""The card of a model that a run trained: made of the result that the run keeps of it."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mtdnn.markdown import in_markdown, table
from mtdnn.method_docs import Method, find_method
from mtdnn.model_card import Result, listing, model_card
from mtdnn.tasks import TaskDef

PLAIN = "standard"  # the objective without a method


def run_card(
    result: Mapping[str, Any],
    tasks: Sequence[TaskDef],
    *,
    also: Sequence[TaskDef] = (),
    name: str,
    start: str | None,
    device: torch.device,
) -> str:
    """The card of the model that a cell trained.

    :param result: as ``results.json`` holds it.
    :param also: tasks that it was evaluated on without being trained for them.
    :param name: of the model: the experiment's and the cell's.
    :param start: the cell whose weights it started from, if not the encoder's.
    :param device: that it was trained on.
    """
    sections = {
        "Data": data_table(result["data"], result["metrics"]),
        "Method": method_text(result["inputs"], start),
        "How it was trained": listing(circumstances(result, device)),
    }
    encoder = result["inputs"]["encoder"]["path"]
    results = list(results_of(result))
    return model_card(tasks, also=also, name=name, encoder=encoder, results=results, sections=sections)


def results_of(result: Mapping[str, Any]) -> Iterator[Result]:
    """Every metric of a result; the interval belongs to the first of each split."""
    for task, splits in result["metrics"].items():
        for split, entry in splits.items():
            for number, (metric, value) in enumerate(entry["values"].items()):
                interval = entry["interval_95"] if number == 0 else None
                yield Result(
                    task=task,
                    split=split,
                    metric=metric,
                    value=value,
                    interval=None if interval is None else (interval[0], interval[1]),
                    units=entry["units"],
                )


def data_table(data: Mapping[str, Mapping[str, int]], metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """How much each task was trained and measured on, and what was left out."""

    def row(task: str, counts: Mapping[str, int]) -> tuple[str, ...]:
        measured = metrics.get(task, {})
        out = {name: count for name, count in counts.items() if name not in ("rows", "trained_on") and count}
        told = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in out.items())
        sizes = (f"{measured[split]['units']:,}" if split in measured else "" for split in ("validation", "test"))
        return (task, f"{counts['rows']:,}", f"{counts['trained_on']:,}", *sizes, told)

    header = ("task", "training rows", "trained on", "validation", "test", "of the training rows")
    return table(header, (row(task, counts) for task, counts in data.items()))


def method_text(inputs: Mapping[str, Any], start: str | None) -> str:
    """The stage's methods, each with its source and with how its preset differs from its paper."""
    stage = inputs["stage"]
    began = f"the weights of {start} of the same run" if start else "the encoder, with fresh heads"
    lines = [in_markdown(f"A stage of the kind {stage['kind']}, which started from {began}.")]
    for options in [stage["objective"], *stage["regularizers"], stage["sampler"]]:
        if options["type"] != PLAIN:
            lines.append(method_line(find_method(options["type"]), options))
    return "\n\n".join(lines)


def without_folders(value: Any) -> Any:
    """An option's value, of paths of this machine the last part alone."""
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def method_line(method: Method, options: Mapping[str, Any]) -> str:
    """One method in a paragraph: what it does, where it is from, its options, how its preset differs."""
    preset = options.get("preset")
    rest = {name: without_folders(value) for name, value in options.items() if name not in ("type", "preset")}
    given = ", ".join(f"{name} {value}" for name, value in rest.items())
    parts = [f"**{in_markdown(method.name)}** ({method.kind}): {in_markdown(method.summary)}"]
    parts.append(in_markdown(method.source))
    if preset:
        note = method.notes.get(preset, "")
        parts.append(in_markdown(f"Preset {preset}. {note}"))
    if given:
        parts.append(in_markdown(f"Options: {given}."))
    return " ".join(parts)


def circumstances(result: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Options, versions, hardware and time."""
    train = {name: value for name, value in result["inputs"]["train"].items() if value is not None}
    return {
        "seed": result["seed"],
        "share of the training data": "all" if result["fraction"] is None else f"{result['fraction']:g}",
        "steps": f"{result['steps']:,}, the weights of step {result['selected_step']:,}",
        "options": ", ".join(f"{name} {value}" for name, value in train.items()),
        "versions": ", ".join(f"{name} {value}" for name, value in result["versions"].items()),
        "hardware": hardware(device),
        "time": f"{result['train_seconds']:,.0f} seconds of training",
    }


def hardware(device: torch.device) -> str:
    """What the model was trained on, in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {platform.machine()}"
