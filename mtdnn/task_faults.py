"""What is wrong with a definition beyond its own file: its head's options and its metrics."""

from functools import partial
from pathlib import Path

from mtdnn.errors import faults_of
from mtdnn.heads.base import HEADS, build_head
from mtdnn.metrics.base import METRICS
from mtdnn.tasks import TaskDef


def task_faults(task: TaskDef) -> list[str]:
    """An unknown kind, unknown metrics, and wrong options of the head, each with the definition's file."""
    place = f"task '{task.name}'" if task.folder == Path() else f"{task.folder / task.name}.yaml"
    faults = faults_of(partial(HEADS.get, task.kind, where=f"{place}: kind")) or faults_of(partial(build_head, task))
    for metric in task.metrics:
        faults += faults_of(partial(METRICS.get, metric, where=f"{place}: metrics"))
    return faults
