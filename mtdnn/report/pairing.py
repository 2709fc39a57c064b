"""Which group of runs is compared with which, and why others are not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mtdnn.errors import ConfigError, unknown
from mtdnn.report.comparison import Comparison, NoPairsError, adjusted, compare
from mtdnn.report.study import Group, Study
from mtdnn.runs import Run, Setting, read_run


@dataclass(frozen=True)
class Compared:
    """Comparisons that were made, and for each that was not a sentence that says why."""

    found: Sequence[Comparison]
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class Own:
    """What a run comes to: the last groups of its systems, and which system the others are measured against."""

    run: Run
    groups: Sequence[Group]

    @cached_property
    def baseline(self) -> str | None:
        """The first system that trains, by its name in the experiment."""
        names = [*(each.system for each in self.run.planned), *(group.own_system for group in self.groups)]
        return next(iter(names), None)

    def reference(self, setting: Setting) -> Group | None:
        """The baseline's group; the first system's where the baseline has no part in the task."""
        there = [group for group in self.groups if group.setting == setting]
        same = [group for group in there if group.own_system == self.baseline]
        if same or self.waits(setting):
            return same[0] if same else None
        return there[0] if there else None

    def waits(self, setting: Setting) -> bool:
        """Whether the baseline has a part in the task."""
        return any(each.system == self.baseline and each.setting == setting for each in self.run.planned)

    def to_come(self, group: Group) -> str | None:
        """The last stage planned for a group's system and task, when the group is an earlier one's."""
        stages = [
            each.stage for each in self.run.planned if each.system == group.own_system and each.setting == group.setting
        ]
        return stages[-1] if group.stage in stages and group.stage != stages[-1] else None


def against_baseline(study: Study) -> Compared:
    """Each system's last stage against the baseline's, by task and fraction; p adjusted over all.

    The baseline is the first system of the run; where it has no part in a task, the first that has. Those of further
    runs are compared with the first run's.
    """
    owns = [Own(run, [group for group in study.last_trained if run.holds(group.cells[0])]) for run in study.runs]
    found, left_out = [], []
    for own, group in groups_of(owns):
        other, other_own = own.reference(group.setting), own
        if other is group:
            other, other_own = owns[0].reference(group.setting), owns[0]
        if other is group or (other is None and other_own is not own):
            continue
        try:
            found.append(compare(ready(other_own, other), ready(own, group)))
        except NoPairsError as error:
            left_out.append(f"{group.system} on {group.place}: {error}")
    return Compared(adjusted(found), left_out)


def groups_of(owns: Sequence[Own]) -> Iterator[tuple[Own, Group]]:
    """Every group with its run; those of a task and fraction together."""
    for setting in dict.fromkeys(group.setting for own in owns for group in own.groups):
        yield from ((own, group) for own in owns for group in own.groups if group.setting == setting)


def ready(own: Own, group: Group | None) -> Group:
    """The group, when it is what its system comes to."""
    if group is None:
        raise NoPairsError(f"{own.baseline} has no result there yet")
    if stage := own.to_come(group):
        raise NoPairsError(f"{group.system} is not through, its stage '{stage}' is to come")
    return group


def compare_systems(a: Path, b: Path) -> Compared:
    """b against a, each ``runs/<name>/<system>``, on every task and fraction that both have.

    Systems of one name are called ``<run>/<system>``.

    :raises ConfigError: when a folder is no system of a run, or they are one, or they have nothing in common.
    """
    if a.resolve() == b.resolve():
        raise ConfigError(f"{a} and {b} are the same system; give two")
    names = told_apart(a, b)
    left, right = (last_groups(path, name) for path, name in zip((a, b), names, strict=True))
    found, left_out = [], []
    for key in (key for key in right if key in left):
        try:
            found.append(compare(left[key], right[key], examples=True))
        except NoPairsError as error:
            left_out.append(f"{right[key].place}: {error}")
    if not found:
        reasons = f": {'; '.join(left_out)}" if left_out else ""
        raise ConfigError(f"{a} and {b} have no task, fraction and seed in common{reasons}")
    return Compared(adjusted(found), left_out)


def told_apart(a: Path, b: Path) -> tuple[str, str]:
    """As much of the ends of two paths as makes them differ."""
    one, two = a.resolve().parts, b.resolve().parts
    length = next(length for length in range(1, len(one) + len(two)) if one[-length:] != two[-length:])
    return "/".join(one[-length:]), "/".join(two[-length:])


def last_groups(system: Path, name: str) -> dict[Setting, Group]:
    """What a system comes to, by task and fraction; it is called ``name``, which ends in its own."""
    own = system.resolve()
    study = Study([read_run(own.parent, prefix=name.removesuffix(own.name))])
    if name not in study.systems:
        known = [each.rpartition("/")[2] for each in study.systems]
        raise ConfigError(f"{system}: {unknown('system', own.name, known)} in {system.parent}")
    return {group.setting: group for group in study.last if group.system == name}
