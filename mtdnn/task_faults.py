"""What is wrong with a definition beyond its own file: its head's options and its metrics."""

from functools import partial

from mtdnn.errors import faults_of
from mtdnn.heads.base import HEADS, build_head
from mtdnn.metrics.base import METRICS
from mtdnn.tasks import TaskDef, places


def task_faults(task: TaskDef) -> list[str]:
    """An unknown kind, unknown metrics, and wrong options of the head, each with file and line."""
    place = places(task)
    faults = faults_of(partial(HEADS.get, task.kind, where=place("kind")))
    faults = faults or faults_of(partial(build_head, task, where=place("head")))
    for index, metric in enumerate(task.metrics):
        faults += faults_of(partial(METRICS.get, metric, where=place("metrics", index)))
    return faults
