"""The errors a user can mend: each says the place, the value found and the remedy, and has an exit code of its own."""

from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher, get_close_matches
from typing import Any

MAX_SHOWN = 20
MAX_NAME = 100  # characters of a name that is shown


class MtdnnError(Exception):
    """Base of all errors that are the user's to mend; the command line shows the message without a traceback."""

    exit_code = 1


class ConfigError(MtdnnError):
    """A YAML file is wrong, or a setting or name that an option gives."""

    exit_code = 3


class DataError(MtdnnError):
    """A data file is missing, or rows in it are wrong."""

    exit_code = 4


class EncoderError(MtdnnError):
    """An encoder cannot be found or cannot be used."""

    exit_code = 5


class CheckpointError(MtdnnError):
    """A checkpoint is damaged, or does not fit what it is loaded into."""

    exit_code = 6


class NonFiniteError(MtdnnError):
    """A loss or a gradient became NaN or infinite."""

    exit_code = 7


class RunError(MtdnnError):
    """Some of a run's work failed; what did not depend on it was done.

    :param causes: what failed; where all have one exit code, it is this error's too.
    """

    exit_code = 8

    def __init__(self, text: str, causes: Iterable[Exception] = ()):
        super().__init__(text)
        codes = {getattr(cause, "exit_code", self.exit_code) for cause in causes}
        if len(codes) == 1:
            (self.exit_code,) = codes


class MemoryExceededError(MtdnnError):
    """A batch needs more memory than there is: in a run, or as ``mtdnn doctor`` measured."""

    exit_code = 9


class StorageError(MtdnnError):
    """A disk is full, or a folder cannot be written."""

    exit_code = 10


class BusyError(MtdnnError):
    """Another process works in the same folder."""

    exit_code = 11


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that ``name`` is not a known ``kind``, with the nearest name and the full list."""
    name, names = name[:MAX_NAME], sorted(known)
    near = get_close_matches(name, names, n=5, cutoff=0.5)
    near.sort(key=lambda each: (-SequenceMatcher(None, each, name).ratio(), each[:1] != name[:1]))
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return f"unknown {kind} '{name}'.{hint} Known: {', '.join(names) or 'none'}"


def listed(faults: Sequence[str], *, count: int | None = None) -> str:
    """Join faults into one message: the first :data:`MAX_SHOWN`, then how many more there are.

    :param count: how many there are in all, where ``faults`` are only the first.
    """
    shown = list(faults[:MAX_SHOWN])
    if (more := (count or len(faults)) - len(shown)) > 0:
        shown.append(f"... and {more} more")
    return "\n".join(shown)


def faults_of(check: Callable[[], Any]) -> list[str]:
    """The message of the error that a check raises; nothing when it raises none."""
    try:
        check()
    except MtdnnError as error:
        return [str(error)]
    return []
