"""Tokenised splits on disk: each whole or not there, built by one process, checked when it is opened."""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from mtdnn.data.units import Counts
from mtdnn.errors import DataError
from mtdnn.files import settle, sha256

UNITS, FACTS = "units.arrow", "facts.json"
STAGED, LOCK = ".staged-", ".lock"


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one tokenised split, kept beside it.

    :param truncated: rows that were longer than the limit and lost tokens.
    """

    counts: Counts
    truncated: int
    content_hash: str


def cache_dir() -> Path:
    """Where tokenised data lies: ``MTDNN_CACHE``, or ``~/.cache/mtdnn``."""
    return Path(os.environ.get("MTDNN_CACHE", "~/.cache/mtdnn")).expanduser()


@dataclass(frozen=True)
class Entry:
    """The place of one split in the cache.

    :param folder: of the split when it has no bad rows, so that it serves those who skip them as well.
    :param skips: whether the split may be one without its bad rows, which has a folder of its own.
    """

    folder: Path
    skips: bool

    @property
    def folders(self) -> list[Path]:
        return [self.folder, self.folder.with_name(f"{self.folder.name}-skip")][: 1 + self.skips]

    def get(self, build: Callable[[Path], SplitFacts]) -> tuple[Path, SplitFacts]:
        """The folder of the split and its facts; ``build`` fills a folder where there is none, or a damaged one.

        Whoever else wants the same split waits meanwhile.
        """
        if found := self._found():
            return found
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder.with_name(self.folder.name + LOCK)):
                found = self._found() or self._built(build)
            self._clear()
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error}; MTDNN_CACHE names another place") from error
        return found

    def _built(self, build: Callable[[Path], SplitFacts]) -> tuple[Path, SplitFacts]:
        staged = self.folder.with_name(f"{STAGED}{self.folder.name}")
        shutil.rmtree(staged, ignore_errors=True)  # of a build that was killed
        try:
            staged.mkdir()
            facts = build(staged)
            _write_facts(staged, facts)
            settle(staged)
            final = self.folders[-1] if facts.counts.rejected else self.folder
            if final.exists():
                warnings.warn(f"{final} was damaged and is made again", stacklevel=3)
                shutil.rmtree(final)
            staged.rename(final)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return final, facts

    def _found(self) -> tuple[Path, SplitFacts] | None:
        """The split where it is there and as it was written."""
        for folder in self.folders:
            if folder.is_dir():
                facts = _read_facts(folder)
                return None if facts is None else (folder, facts)
        return None

    def _clear(self) -> None:
        """Remove what killed builds of other splits left."""
        for lock in self.folder.parent.glob(f"*{LOCK}"):
            with suppress(Timeout), FileLock(lock, timeout=0):
                shutil.rmtree(lock.with_name(STAGED + lock.name.removesuffix(LOCK)), ignore_errors=True)


def _write_facts(folder: Path, facts: SplitFacts) -> None:
    content = json.dumps({**asdict(facts), "units": sha256(folder / UNITS)})
    (folder / FACTS).write_text(f"{content}\n{hashlib.sha256(content.encode()).hexdigest()}\n")


def _read_facts(folder: Path) -> SplitFacts | None:
    """The facts of a split; None where they or its units are not as they were written."""
    try:
        content, digest, end = (folder / FACTS).read_bytes().split(b"\n")
        if end or hashlib.sha256(content).hexdigest().encode() != digest:
            return None
        facts = json.loads(content)
        if sha256(folder / UNITS) != facts.pop("units"):
            return None
    except (OSError, ValueError):
        return None
    return SplitFacts(counts=Counts(**facts.pop("counts")), **facts)
