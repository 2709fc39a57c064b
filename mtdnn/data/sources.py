"""TaskDef -> raw rows: where a split's rows come from, and that they come from nowhere else."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mtdnn.data.formats import READERS, dataset_rows, suffix_format
from mtdnn.data.rows import Faults, Row
from mtdnn.errors import ConfigError, DataError, unknown
from mtdnn.files import is_file, sha256
from mtdnn.hub import hub_or_cache
from mtdnn.tasks import FilesLayout, GeneratedLayout, HubLayout, Layout, TaskDef
from mtdnn.testing import corpus

if TYPE_CHECKING:  # takes a second to import, and few need it
    import datasets

PART = re.compile(r"(?P<name>[^\[\]+]+)(\[(?P<start>-?\d{1,9})?:(?P<stop>-?\d{1,9})?\])?")
SAVED_MODELS = ("model.safetensors", "model/model.safetensors")


@dataclass(frozen=True)
class Source:
    """Where one split's rows come from: files with the slice to take of each, a hub data set, or a generated corpus."""

    task: TaskDef
    layout: Layout
    split: str
    parts: tuple[tuple[str, slice], ...]
    data_dir: Path | None = None

    def rows(self, faults: Faults) -> Iterator[Row]:
        for name, part in self.parts:
            yield from _sliced(self._read(name, faults), part)

    def content_hash(self) -> str:
        """SHA-256 of the bytes that the rows are made from: same bytes, same rows."""
        digest = hashlib.sha256()
        for name, part in self.parts:
            digest.update(f"{part.start}:{part.stop}:".encode())
            if isinstance(self.layout, FilesLayout):
                digest.update(bytes.fromhex(_file_hash(self._file(name))))
            elif isinstance(self.layout, HubLayout):
                digest.update(load_hub(self.layout, name)._fingerprint.encode())
            else:
                rows = [row.values for row in self._read(name, Faults())]
                digest.update(json.dumps(rows, sort_keys=True).encode())
        return digest.hexdigest()

    def _read(self, name: str, faults: Faults) -> Iterator[Row]:
        if isinstance(self.layout, FilesLayout):
            path = self._file(name)
            return READERS[self.layout.format or suffix_format(path)](path, faults)
        if isinstance(self.layout, HubLayout):
            table = load_hub(self.layout, name)
            return dataset_rows(iter(table), table.features, f"{self.layout.path}/{name}")
        assert isinstance(self.layout, GeneratedLayout)
        made = corpus.rows(self.layout.corpus, name, size=self.layout.sizes.get(self.split))
        return (Row(f"{self.layout.corpus}/{name}:{line}", row) for line, row in enumerate(made, 1))

    def _file(self, name: str) -> Path:
        assert isinstance(self.layout, FilesLayout)
        return data_file(self.task, self.layout, name, self.data_dir)


def _file_hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def find_source(task: TaskDef, split: str, *, layout: str | None = None, data_dir: Path | None = None) -> Source:
    """The source of one split, its files checked to be there.

    :param layout: ``hub``, ``files`` or ``generated``; by default ``files`` when there is a ``data_dir``, else the hub.
    :raises DataError: a split that the layout does not declare, or a file that is not there.
    """
    wanted = layout or ("files" if data_dir and task.data.files else None)
    chosen = task.layout(wanted)
    if split not in chosen.splits:
        raise DataError(f"task '{task.name}': {unknown('split', split, chosen.splits)}")
    parts = tuple(_parts(chosen.splits[split], where=f"task '{task.name}': splits.{split}"))
    source = Source(task=task, layout=chosen, split=split, parts=parts, data_dir=data_dir)
    if isinstance(chosen, FilesLayout):
        for name, _ in parts:
            data_file(task, chosen, name, data_dir)
    return source


def data_file(task: TaskDef, layout: FilesLayout, name: str, data_dir: Path | None) -> Path:
    """The file of one of the source's splits.

    It may not lie outside the data folder, nor, where the definition came with somebody's checkpoint, outside the
    definition's own folder; links are followed first.

    :raises ConfigError: when it does.
    :raises DataError: when it is not there.
    """
    if data_dir is None and task.folder == Path():
        raise ConfigError(f"task '{task.name}' came inside a checkpoint, whose paths are not followed; give --data-dir")
    root = (data_dir or task.folder).resolve()
    try:
        path = (root / layout.path.replace("{split}", name)).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"task '{task.name}': data.files.path '{layout.path}' is no path: {error}") from error
    if (data_dir is not None or came_with_a_checkpoint(root)) and not path.is_relative_to(root):
        raise ConfigError(
            f"task '{task.name}': data.files.path '{layout.path}' leads to {path}, outside its data folder {root}; put "
            "the file there, or give the folder that it is in with --data-dir"
        )
    if not is_file(path):
        there = sorted(p.name for p in path.parent.glob("*")) if path.parent.is_dir() else []
        hint = f"{path.parent} holds {', '.join(there)}" if there else f"{path.parent} is not there; --data-dir {root}"
        raise DataError(f"task '{task.name}': no file {path}; {hint}")
    return path


def came_with_a_checkpoint(folder: Path) -> bool:
    """Whether a folder of definitions lies in or beside a saved model."""
    return any((each / model).is_file() for each in (folder, folder.parent) for model in SAVED_MODELS)


def _parts(spec: str, *, where: str) -> Iterator[tuple[str, slice]]:
    for piece in spec.split("+"):
        match = PART.fullmatch(piece.strip())
        if match is None:
            raise ConfigError(f"{where}: cannot read '{spec}'; write name, name[:100], name[-100:] or a + b")
        start, stop = (int(match[key]) if match[key] else None for key in ("start", "stop"))
        yield match["name"].strip(), slice(start, stop)


def _sliced(rows: Iterator[Row], part: slice) -> Iterator[Row]:
    if (part.start or 0) >= 0 and (part.stop is None or part.stop >= 0):
        return islice(rows, part.start, part.stop)
    return iter(list(rows)[part])


def load_hub(layout: HubLayout, split: str) -> "datasets.Dataset":
    """One split from the hub, or from the hub's cache on this machine."""
    import datasets

    try:
        with hub_or_cache():
            return datasets.load_dataset(layout.path, layout.name, split=split, revision=layout.revision)
    except Exception as error:  # datasets raises many kinds; all mean that the data is not to be had
        raise DataError(
            f"hub data set '{layout.path}' ({layout.name or 'default'}, split {split}) cannot be loaded: "
            f"{str(error).splitlines()[0][:200]}. With no network, give --data-dir with the task's files"
        ) from error
