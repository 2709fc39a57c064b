"""How often a model was updated on a task, over all the stages that it went through."""

from dataclasses import dataclass
from statistics import mean

from mtdnn.report.study import Group
from mtdnn.runs import FinishedCell, Run

ABOUT_EQUAL = 1.1  # the larger over the smaller


@dataclass(frozen=True, kw_only=True)
class Updates:
    """Optimizer steps; the mean of several models' need not be whole.

    :param own: of the last stage, those with the task in them.
    :param before: of the stages before it, likewise.
    :param others: of all stages, those with other tasks alone.
    :param about: worked out and not counted.
    """

    own: float
    before: float = 0.0
    others: float = 0.0
    about: bool = False

    @property
    def total(self) -> int:
        """With the task in them."""
        return round(self.before + self.own)

    def shown(self) -> str:
        """The total, with what it is the sum of."""
        parts = f"{round(self.before)} + {self.total - round(self.before)} = " if round(self.before) else ""
        return f"{'about ' if self.about else ''}{parts}{self.total}"

    def times(self, other: "Updates") -> float:
        """How many times as many the one with more has, at least 1."""
        few, many = sorted([max(self.total, 1), max(other.total, 1)])
        return many / few

    def against(self, other: "Updates") -> str:
        """Whether the two are equal, in words."""
        if self.total == other.total:
            return "about equal" if self.about or other.about else "equal"
        return "about equal" if self.times(other) <= ABOUT_EQUAL else "unequal"


def updates_of(run: Run, group: Group) -> Updates | None:
    """The mean over a group's seeds; None where one of them does not tell."""
    found = [each for cell in group.cells if (each := through_stages(run, cell, group.task))]
    if len(found) < len(group.cells):
        return None
    return Updates(
        own=mean(each.own for each in found),
        before=mean(each.before for each in found),
        others=mean(each.others for each in found),
        about=any(each.about for each in found),
    )


def through_stages(run: Run, cell: FinishedCell, task: str) -> Updates | None:
    """Those of a model's stages, from the encoder on; None where one of them is gone or does not tell."""
    own = of_stage(cell, task)
    if cell.from_start or own is None:
        return own
    start = run.start_of(cell)
    earlier = through_stages(run, start, task) if start else None
    if earlier is None:
        return None
    return Updates(
        own=own.own,
        before=earlier.before + earlier.own,
        others=earlier.others + own.others,
        about=earlier.about or own.about,
    )


def of_stage(cell: FinishedCell, task: str) -> Updates | None:
    steps: int | None = cell.result.get("steps")
    if steps is None:
        return None
    counted: dict[str, int] | None = cell.result.get("task_updates")
    if counted is None and task in cell.tasks and len(cell.tasks) > 1:
        share = sampled_share(cell, task)
        return None if share is None else Updates(own=share * steps, others=steps - share * steps, about=True)
    own = counted.get(task, 0) if counted is not None else steps if task in cell.tasks else 0
    return Updates(own=own, others=steps - own)


def sampled_share(cell: FinishedCell, task: str) -> float | None:
    """Of a joint stage's updates, where its result does not count them; None where only the sampler's draws would tell.

    Rounds give every task as many; proportional sampling as its share of the rows, but for each last batch.
    """
    inputs = cell.result["inputs"]
    sampler, options = inputs["stage"].get("sampler", {}), inputs.get("train", {})
    if options.get("accumulate", 1) > 1 and options.get("accumulation") != "same_task":
        return None  # tasks share steps
    if sampler.get("type") == "round_robin" and sampler.get("end") != "until_all_seen":
        return 1 / len(cell.tasks)
    if sampler.get("type") == "proportional" and "data" in cell.result:
        rows = {name: counts["trained_on"] for name, counts in cell.result["data"].items()}
        return float(rows[task] / sum(rows.values()))
    return None
