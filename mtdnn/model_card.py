"""A model's card: what the hub and its readers should know of it, as a ``README.md`` with the hub's metadata."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

import mtdnn
from mtdnn.heads.base import HEADS
from mtdnn.markdown import in_markdown, paragraph, table
from mtdnn.tasks import TaskDef

CARD = "README.md"
PACKAGED = ("package:", "tiny")  # encoders that no hub has
NOT_STATED = "unknown"
USE = """```python
from mtdnn.predictor import Predictor

predictor = Predictor.load("this folder")
predictor.predict([{row}], [predictor.task({task!r})])
```"""
LICENCES = (
    "Nothing here licenses the model: that is for whoever publishes it to say, by the licences of the encoder and of "
    "the data above. No example of the data is in this folder, but weights can give away what they were trained on."
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One metric on one split.

    :param interval: the 95 % bootstrap interval, where there is one.
    :param units: how many examples, or groups in ranking.
    """

    task: str
    split: str
    metric: str
    value: float
    interval: tuple[float, float] | None = None
    units: int | None = None


def model_card(
    tasks: Sequence[TaskDef],
    *,
    also: Sequence[TaskDef] = (),
    name: str,
    encoder: str | None = None,
    results: Sequence[Result] = (),
    sections: Mapping[str, str] | None = None,
) -> str:
    """The card's text; all that comes from names and definitions is escaped.

    :param also: tasks without a head of their own that there are results of.
    :param name: what the model is called.
    :param encoder: what it was trained from, as an experiment's ``encoder.path`` says it.
    :param results: as they were measured.
    :param sections: more of it, Markdown by title.
    """
    data = metadata(tasks, also=also, name=name, encoder=encoder, results=results)
    known = [("Tasks", tasks_table(tasks)), ("Results", results_table(results))]
    parts = [f"# {in_markdown(name)}", introduction(tasks, encoder)]
    for title, text in [*known, *(sections or {}).items(), ("Use", use(tasks)), ("Licence", LICENCES)]:
        if text:
            parts += [f"## {in_markdown(title)}", text.rstrip()]
    body = "\n\n".join(parts)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def metadata(
    tasks: Sequence[TaskDef],
    *,
    also: Sequence[TaskDef],
    name: str,
    encoder: str | None,
    results: Sequence[Result],
) -> ModelCardData:
    """What the hub reads: tags, data sets, base model, results."""
    by_name = {task.name: task for task in (*tasks, *also)}
    kinds = list(dict.fromkeys(hub_task(task) for task in tasks))
    sources = Counter(map(source_on_hub, by_name.values()))
    shared = {task.name for task in by_name.values() if sources[source_on_hub(task)] > 1}
    return ModelCardData(
        model_name=name,
        library_name="mtdnn",
        tags=["mtdnn", "multi-task", *kinds],
        pipeline_tag=kinds[0] if len(kinds) == 1 else "text-classification",
        base_model=encoder if encoder and on_hub(encoder) else None,
        datasets=list(dict.fromkeys(path for task in tasks if (path := data_set(task)))) or None,
        metrics=list(dict.fromkeys(metric for task in tasks for metric in task.metrics)) or None,
        eval_results=[eval_result(each, by_name[each.task], shared=shared) for each in results] or None,
    )


def source_on_hub(task: TaskDef) -> tuple[str, str, str | None]:
    """Kind of task, data set and configuration; the hub takes results for one task's where they are equal."""
    hub = task.data.hub
    return hub_task(task), data_set(task) or task.name, hub.name if hub and data_set(task) else None


def eval_result(result: Result, task: TaskDef, *, shared: Collection[str]) -> EvalResult:
    """A result as the hub's model index has it.

    :param shared: tasks that have their data set in common with another one, and so go by their own names.
    """
    kind, source, config = source_on_hub(task)
    return EvalResult(
        task_type=kind,
        task_name=task.name,
        dataset_type=task.name if task.name in shared else source,
        dataset_name=task.name,
        dataset_config=None if task.name in shared else config,
        dataset_split=result.split,
        metric_type=result.metric,
        metric_value=result.value,
        metric_name=result.metric,
    )


def hub_task(task: TaskDef) -> str:
    """What the hub calls this kind of task."""
    return HEADS.get(task.head_type, where=f"task '{task.name}'").hub_task


def data_set(task: TaskDef) -> str | None:
    """The data set's name on the hub, where the definition gives one."""
    return task.data.hub.path if task.data.hub and is_hub_name(task.data.hub.path) else None


def on_hub(encoder: str) -> bool:
    """Whether an encoder's path is a name on the hub, and no folder or package of this machine."""
    return not encoder.startswith(PACKAGED) and not Path(encoder).exists() and is_hub_name(encoder)


def is_hub_name(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def encoder_name(encoder: str) -> str:
    """An encoder's path without the folders of the machine that it was on."""
    return encoder if on_hub(encoder) or encoder.startswith(PACKAGED) else Path(encoder).name


def introduction(tasks: Sequence[TaskDef], encoder: str | None) -> str:
    """What the model is, in two sentences."""
    count = "one head" if len(tasks) == 1 else f"{len(tasks)} heads, one a task"
    start = f" It was trained from {encoder_name(encoder)}." if encoder else ""
    return paragraph(f"A text encoder with {count}, in the manner of MT-DNN, by mtdnn {mtdnn.__version__}.{start}")


def tasks_table(tasks: Sequence[TaskDef]) -> str:
    """What each task is, what it answers, and the licence of its data."""
    header = ("task", "kind", "answers", "what it is", "source", "licence of the data")
    return table(header, ([*described(task)] for task in tasks))


def described(task: TaskDef) -> tuple[str, ...]:
    answers = ", ".join(task.label_names) or (f"{task.range[0]:g} to {task.range[1]:g}" if task.range else "a score")
    licence = task.license if task.license != NOT_STATED else "not stated"
    return (f"{task.name}, version {task.version}", task.kind, answers, task.description, task.citation, licence)


def results_table(results: Sequence[Result]) -> str:
    """Every result, with its interval."""
    if not results:
        return ""
    rows = (
        (
            each.task,
            each.split,
            each.metric,
            f"{each.value:.4f}",
            f"{each.interval[0]:.4f} to {each.interval[1]:.4f}" if each.interval else "",
            "" if each.units is None else f"{each.units:,}",
        )
        for each in results
    )
    return table(("task", "split", "metric", "value", "95 % interval", "examples"), rows)


def use(tasks: Sequence[TaskDef]) -> str:
    """How to load it; nothing for a model without tasks, or with a name that a block of code could not hold."""
    if not tasks or "`" in tasks[0].name:
        return ""
    texts = {"text_a": "...", **({"text_b": "..."} if tasks[0].inputs.second else {})}
    return USE.format(row=texts, task=tasks[0].name)


def listing(facts: Mapping[str, Any]) -> str:
    """Names and values as a list."""
    return "\n".join(f"- {in_markdown(str(name))}: {in_markdown(str(value))}" for name, value in facts.items())
