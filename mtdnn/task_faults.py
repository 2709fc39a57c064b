"""What is wrong with definitions beyond their own files: options of heads, metrics, answers of one asked of another."""

from collections.abc import Sequence
from functools import partial

from mtdnn.errors import ConfigError, faults_of, listed
from mtdnn.heads.base import HEADS, build_head
from mtdnn.metrics.base import METRICS
from mtdnn.tasks import TaskDef, TaskRegistry, check_names, places


def task_faults(task: TaskDef) -> list[str]:
    """An unknown kind, unknown metrics, and wrong options of the head, each with file and line."""
    place = places(task)
    faults = faults_of(partial(HEADS.get, task.kind, where=place("kind")))
    faults = faults or faults_of(partial(build_head, task, where=place("head")))
    for index, metric in enumerate(task.metrics):
        faults += faults_of(partial(METRICS.get, metric, where=place("metrics", index)))
    return faults


def check_answers(task: str, others: Sequence[str], registry: TaskRegistry, *, where: str) -> None:
    """ConfigError with the tasks that are unknown, or have other answers than the task's head, or are read otherwise.

    A task that has faults of its own is left to :func:`task_faults`.
    """
    asked = check_names(others, registry, where=where)
    if task not in registry or any(map(task_faults, (registry[task], *asked))):
        return
    trained = registry[task]
    encoding = build_head(trained).encoding
    wrong = [each for each in asked if not trained.can_answer(each) or build_head(each).encoding != encoding]
    if wrong:
        told = f"{where}: the head of {answers_of(trained)} cannot answer"
        raise ConfigError(listed([f"{told} {answers_of(each)}" for each in wrong]))


def answers_of(task: TaskDef) -> str:
    """The task with the kind of its head and what that answers, in words."""
    answers = ", ".join(task.label_names) or (f"{task.range[0]:g} to {task.range[1]:g}" if task.range else "")
    return f"'{task.name}' ({task.head_type}{': ' if answers else ''}{answers})"
