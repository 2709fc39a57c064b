"""Which group of runs is compared with which, and why others are not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtdnn.errors import ConfigError, unknown
from mtdnn.report.comparison import Comparison, NoPairsError, adjusted, compare
from mtdnn.report.study import Group, Study
from mtdnn.runs import Run, Setting, read_run


@dataclass(frozen=True)
class Compared:
    """Comparisons that were made, for each that was not a sentence that says why, and which systems share models."""

    found: Sequence[Comparison]
    left_out: Sequence[str] = ()
    shared: Sequence[str] = ()


@dataclass(frozen=True)
class Own:
    """A run's trained groups: what its systems come to, and which of them the others are measured against."""

    run: Run
    groups: Sequence[Group]

    @cached_property
    def last(self) -> list[Group]:
        """Of each system, task and share the last that the experiment still has."""
        return list({(group.system, *group.setting): group for group in self.groups if self.has(group)}.values())

    def has(self, group: Group) -> bool:
        """Whether the experiment has what the group was trained for; yes where its plan is not known."""
        return not self.run.planned or group.stage in self.stages(group.own_system, group.setting)

    def stages(self, system: str, setting: Setting) -> list[str]:
        return [each.stage for each in self.run.planned if (each.system, each.setting) == (system, setting)]

    def baseline(self, setting: Setting) -> str | None:
        """The system that others are measured against: the first of the experiment that has a part in the task."""
        planned = [each.system for each in self.run.planned if each.setting == setting]
        there = planned or [group.own_system for group in self.last if group.setting == setting]
        return next(iter(there), None)

    def reference(self, setting: Setting) -> Group | None:
        """Its group; None where there is none yet."""
        system = self.baseline(setting)
        return next((each for each in self.last if (each.own_system, each.setting) == (system, setting)), None)

    def ready(self, group: Group) -> Group:
        """The group, when it is what its system comes to."""
        stages = self.stages(group.own_system, group.setting)
        if stages and group.stage != stages[-1]:
            raise NoPairsError(f"{group.system} is not through, its stage '{stages[-1]}' is to come")
        return group


def owns_of(study: Study) -> list[Own]:
    trained = [group for group in study.groups if group.kind != "cosine"]
    return [Own(run, [group for group in trained if run.holds(group.cells[0])]) for run in study.runs]


@dataclass(frozen=True)
class Pairs:
    """Groups that a comparison is of, a and b, and for each that is not compared a sentence that says why.

    :ivar shared: what is another's model, in words: it is not compared with itself, and a pair of models is there once.
    """

    found: Sequence[tuple[Group, Group]]
    left_out: Sequence[str] = ()
    shared: Sequence[str] = ()

    @classmethod
    def distinct(cls, pairs: Sequence[tuple[Group, Group]], left_out: Sequence[str] = ()) -> "Pairs":
        """Those of different models, the first of several that are of the same ones."""
        first: dict[Any, Group] = {}
        found, shared = [], []
        for a, b in pairs:
            models = [(a.models[seed], b.models[seed]) for seed in a.models if seed in b.models]
            if models and all(one == two for one, two in models):
                known = a
            else:
                known = first.setdefault((b.setting, *models), b) if models else b
            if known is b:
                found.append((a, b))
            else:
                shared.append(f"{b.name} is {known.name}")
        return cls(found, left_out, list(dict.fromkeys(shared)))


def baseline_pairs(study: Study) -> Pairs:
    """The baseline's last stage and each other system's, by task and fraction.

    The baseline is the first system of the run; where it has no part in a task, the first that has. The baseline of a
    further run is compared with the first run's, its other systems with their own. Models that systems share are not
    compared with themselves, nor twice with the same others.
    """
    owns = owns_of(study)
    found, left_out = [], []
    for own, group in last_groups(owns):
        home = owns[0] if group.own_system == own.baseline(group.setting) else own
        other = home.reference(group.setting)
        if other is group or (other is None and home is not own):
            continue
        try:
            if other is None:
                raise NoPairsError(f"{home.baseline(group.setting)} has no result there yet")
            found.append((home.ready(other), own.ready(group)))
        except NoPairsError as error:
            left_out.append(not_paired(group, error))
    for own in owns:
        gone = [group for group in own.groups if not own.has(group)]
        left_out += [f"{group.name} on {group.place}: the experiment has it no more" for group in gone]
    return Pairs.distinct(found, left_out)


def not_paired(group: Group, error: NoPairsError) -> str:
    return f"{group.system} on {group.place}: {error}"


def against_baseline(study: Study) -> Compared:
    """Each of :func:`baseline_pairs`, tested; p adjusted over all."""
    pairs = baseline_pairs(study)
    found, left_out = [], list(pairs.left_out)
    for a, b in pairs.found:
        try:
            found.append(compare(a, b))
        except NoPairsError as error:
            left_out.append(not_paired(b, error))
    return Compared(adjusted(found), left_out, pairs.shared)


def last_groups(owns: Sequence[Own]) -> Iterator[tuple[Own, Group]]:
    """Every last group with its run; those of a task and share together."""
    for setting in dict.fromkeys(group.setting for own in owns for group in own.last):
        yield from ((own, group) for own in owns for group in own.last if group.setting == setting)


def compare_systems(a: Path, b: Path) -> Compared:
    """b against a, each ``runs/<name>/<system>``, on every task and fraction that both have.

    Systems of one name are called ``<run>/<system>``.

    :raises ConfigError: when a folder is no system of a run, or they are one, or they have nothing in common.
    """
    if a.resolve() == b.resolve():
        raise ConfigError(f"{a} and {b} are the same system; give two")
    (left_own, left), (right_own, right) = (
        system_of(path, name) for path, name in zip((a, b), told_apart(a, b), strict=True)
    )
    pairs = Pairs.distinct([(left[key], right[key]) for key in right if key in left])
    found, left_out = [], []
    for one, two in pairs.found:
        try:
            found.append(compare(left_own.ready(one), right_own.ready(two), examples=True))
        except NoPairsError as error:
            left_out.append(f"{two.place}: {error}")
    if not found:
        told = [*left_out, *(f"{each}, the same models" for each in pairs.shared)]
        reasons = f": {'; '.join(told)}" if told else ""
        raise ConfigError(f"{a} and {b} have no task, fraction and seed in common{reasons}")
    return Compared(adjusted(found), left_out, pairs.shared)


def told_apart(a: Path, b: Path) -> tuple[str, str]:
    """As much of the ends of two paths as makes them differ."""
    one, two = a.resolve().parts, b.resolve().parts
    length = next(length for length in range(1, len(one) + len(two)) if one[-length:] != two[-length:])
    return "/".join(one[-length:]), "/".join(two[-length:])


def system_of(system: Path, name: str) -> tuple[Own, dict[Setting, Group]]:
    """What a system comes to, by task and share, with its run; it is called ``name``, which ends in its own."""
    place = system.resolve()
    study = Study([read_run(place.parent, prefix=name.removesuffix(place.name))])
    if name not in study.systems:
        known = [each.rpartition("/")[2] for each in study.systems]
        raise ConfigError(f"{system}: {unknown('system', place.name, known)} in {system.parent}")
    (own,) = owns_of(study)
    return own, {group.setting: group for group in own.last if group.system == name}
