"""What is wrong with a definition beyond its own file: its head's options and its metrics."""

from functools import partial

from mtdnn.errors import faults_of
from mtdnn.heads.base import build_head
from mtdnn.metrics.base import METRICS
from mtdnn.tasks import TaskDef


def task_faults(task: TaskDef) -> list[str]:
    """Unknown metrics and head options of a definition."""
    faults = faults_of(partial(build_head, task))
    for metric in task.metrics:
        faults += faults_of(partial(METRICS.get, metric, where=f"task '{task.name}': metrics"))
    return faults
