"""Experiment trackers (Weights & Biases, MLflow, Comet, Aim, ...) through accelerate's classes for them."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtdnn.errors import ConfigError, listed, unknown
from mtdnn.files import read_json, write_json_atomically
from mtdnn.tracking import Events

log = logging.getLogger(__name__)
TOLD, LOGS = "tracked.json", "tracking"
UNUSUAL = re.compile(r"[^\w./ -]")  # in a scalar's name; some trackers refuse it


def check_trackers(names: Sequence[str]) -> None:
    """That accelerate knows the trackers and their packages are installed.

    :raises ConfigError: with every fault and the line that mends it.
    """
    if not names:
        return
    classes, missing = known_trackers()
    faults = []
    for name in names:
        if name not in classes:
            faults.append(f"--track: {unknown('tracker', name, classes)}")
        elif name in missing:
            faults.append(f"--track {name}: its package is not installed: pip install {name}")
    if faults:
        raise ConfigError(listed(faults))


def known_trackers() -> tuple[Mapping[str, Any], set[str]]:
    """accelerate's tracker classes by name, and those whose packages are not installed."""
    try:
        from accelerate import tracking
    except ImportError:
        raise ConfigError("--track needs accelerate: pip install 'mtdnn[track]'") from None
    installed = {str(each) for each in tracking.get_available_trackers()}
    shipped = {str(each) for each in tracking.LoggerType}
    classes: Mapping[str, Any] = tracking.LOGGER_TYPE_TO_CLASS
    return classes, {name for name in classes if name in shipped and name not in installed}


@dataclass
class Trackers:
    """Trackers of one cell's training. What was told before a resume is not told again: the values are the same.

    :param project: the project, or experiment, that the trackers file the run under.
    :param facts: of the run, such as its seed: numbers and texts by name.
    :param folder: of the cell: a note of what was told goes there, and the logs of trackers that write files.
    """

    names: Sequence[str]
    project: str
    facts: Mapping[str, Any]
    folder: Path
    _open: dict[str, Any] = field(default_factory=dict)
    _told: dict[str, list[Any]] = field(default_factory=dict)

    @contextmanager
    def open(self) -> Iterator[None]:
        """While entered, scalars are told.

        :raises ConfigError: when a tracker cannot be started, as without its login.
        """
        self._told = read_json(self.folder / TOLD, default={})
        with ExitStack() as stack:
            for name in self.names:
                self._open[name] = tracker = self._started(name)
                stack.callback(self._finish, name, tracker)
            yield
        self._open = {}

    def _started(self, name: str) -> Any:
        cls = known_trackers()[0][name]
        logs = [str(self.folder / LOGS)] if cls.requires_logging_directory else []
        try:
            tracker = cls(self.project, *logs)
            tracker.start()
            tracker.store_init_configuration(dict(self.facts))
        except Exception as error:  # each tracker has errors of its own
            raise ConfigError(f"--track {name}: cannot be started: {error}") from error
        return tracker

    def _finish(self, name: str, tracker: Any) -> None:
        try:
            tracker.finish()
        except Exception as error:  # each tracker has errors of its own
            log.warning("%s was not closed: %s", name, error)

    def log(self, group: str, values: Mapping[str, float], *, step: int) -> None:
        """Tell ``<group>/<name>`` for each value to those that were not told before.

        A tracker that fails is told no more; training goes on.
        """
        scalars = {UNUSUAL.sub("_", f"{group}/{name}".replace(" ", "_")): value for name, value in values.items()}
        for name, tracker in list(self._open.items()):
            if not self._noted(name, group, step=step):
                continue
            try:
                tracker.log(scalars, step=step)
            except Exception as error:  # each tracker has errors of its own
                log.warning("%s fails, and is told no more: %s", name, error)
                del self._open[name]

    def _noted(self, name: str, group: str, *, step: int) -> bool:
        """Note that a group is told at a step; False where it was before.

        Noted first: a kill between both loses a value and never doubles one.
        """
        last, groups = self._told.get(name, [-1, []])
        if step < last or (step == last and group in groups):
            return False
        self._told[name] = [step, [*groups, group] if step == last else [group]]
        write_json_atomically(self.folder / TOLD, self._told)
        return True


class TrackedEvents(Events):
    """TensorBoard's events, and the same scalars in trackers.

    :param folder: where the events go.
    """

    def __init__(self, folder: Path | None, trackers: Trackers):
        super().__init__(folder)
        self.trackers = trackers

    @contextmanager
    def open(self, *, step: int) -> Iterator[None]:
        with super().open(step=step), self.trackers.open():
            yield

    def scalars(self, group: str, values: Mapping[str, float], *, step: int) -> None:
        super().scalars(group, values, step=step)
        self.trackers.log(group, values, step=step)


def flat_facts(values: Mapping[str, Any]) -> dict[str, int | float | str | bool]:
    """Values that every tracker takes: numbers and texts; what is None is left out."""
    return {
        name: value if isinstance(value, int | float | str | bool) else str(value)
        for name, value in values.items()
        if value is not None
    }
