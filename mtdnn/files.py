"""Files that are whole or not there, and folders that one process has to itself."""

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from mtdnn.errors import MAX_NAME, BusyError, CheckpointError, ConfigError, StorageError

LOCK, HOLDER, MANIFEST = ".lock", ".holder.json", "manifest.json"
# What reading a file of JSON or tensors that is not what it should be can raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError, SafetensorError)


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(files: Iterable[Path]) -> str:
    """SHA-256 over names and contents, whatever else lies in their folders."""
    return hashlib.sha256("\n".join(f"{file.name} {sha256(file)}" for file in files).encode()).hexdigest()


def write_json_atomically(path: Path, content: Any) -> None:
    """Write beside, flush, rename: a reader sees the old file or the new one.

    :raises StorageError: when it cannot be written.
    """
    write_text_atomically(path, as_json(content))


def write_text_atomically(path: Path, text: str) -> None:
    """As :func:`write_json_atomically`, with text."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        staged.write_text(text, encoding="utf-8")
        flush(staged)
        staged.rename(path)


def read_json(path: Path, *, default: Any) -> Any:
    """The content of a file that :func:`write_json_atomically` wrote; ``default`` where there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """JSON lines, whole or not at all; StorageError when they cannot be written."""
    write_text(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Lines with their ends, whole or not at all; StorageError when they cannot be written."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(path):
            with staged.open("w", encoding="utf-8", newline="") as file:
                file.writelines(lines)
            staged.replace(path)
    finally:
        with suppress(OSError):
            staged.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, *, num_bytes: int | None = None) -> Iterator[None]:
    """While entered, a full disk or a folder that cannot be written is a :class:`StorageError`.

    :param num_bytes: how many are needed, where that is known.
    """
    try:
        yield
    except BrokenPipeError:  # who reads has had enough
        raise
    except (OSError, SafetensorError) as error:
        needed = f"; {num_bytes:,} bytes are needed" if num_bytes is not None else ""
        raise StorageError(f"{path}: cannot be written: {error}{needed}") from error


def require_space(folder: Path, num_bytes: int, *, purpose: str) -> None:
    """StorageError when the disk of ``folder``, which may not be there yet, has less room."""
    there = next(path for path in [folder, *folder.resolve().parents] if path.is_dir())
    free = shutil.disk_usage(there).free
    if free < num_bytes:
        raise StorageError(
            f"{folder}: {purpose} need {num_bytes:,} bytes, and {free:,} are free; make room, or give another --out"
        )


def write_manifest(folder: Path, *, format: int) -> None:
    """``manifest.json`` with the SHA-256 of every file of a folder, and all of it on the disk."""
    hashes = {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}
    manifest = json.dumps({"format": format, "files": hashes}, indent=1)  # ends with its bracket: any cut shows
    (folder / MANIFEST).write_text(manifest, encoding="utf-8")
    settle(folder)


def settle(folder: Path) -> None:
    """All of a new folder on the disk, its files readable for whom it is: safetensors writes for the owner alone."""
    mode = folder.stat().st_mode & 0o666
    for path in folder.iterdir():
        if path.is_file():
            with suppress(OSError):  # a disk without modes
                path.chmod(mode)
        flush(path)
    flush(folder)


def require_new(out: Path) -> None:
    """ConfigError when something is at ``out`` already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out: {out} is there already; give another folder, or delete it")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes ``out`` when all went well and is gone when it did not.

    :raises ConfigError: when something is there already.
    :raises StorageError: when it cannot be written.
    """
    require_new(out)
    out = out.resolve()
    staged = out.with_name(f".staged-{out.name}")
    try:
        with writing(out):
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            yield staged
            settle(staged)
            if out.is_dir():
                out.rmdir()
            staged.rename(out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def verify_manifest(folder: Path, *, format: int) -> None:
    """CheckpointError that names the first file that is missing or changed since the manifest was written."""
    place = folder / MANIFEST
    try:
        manifest = json.loads(place.read_text(encoding="utf-8"))
        files = {Path(name[-MAX_NAME:]).name: str(expected) for name, expected in manifest["files"].items()}
        found = manifest.get("format")
    except UNREADABLE as error:
        raise CheckpointError(f"{place} is missing or damaged ({str(error)[:300]})") from error
    if found != format:
        raise CheckpointError(f"{folder}: format {str(found)[:MAX_NAME]}; this version reads format {format}")
    for name, expected in files.items():
        file = folder / name
        if not is_file(file):
            raise CheckpointError(f"{file} is missing")
        if sha256(file) != expected:
            raise CheckpointError(f"{file} is damaged: its SHA-256 is not the manifest's")


def write_json(path: Path, content: Any) -> None:
    path.write_text(as_json(content), encoding="utf-8")


def as_json(content: Any) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While entered, the folder is this process's; the lock of a process that was killed does not count.

    :raises BusyError: at once, naming the process that has it.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise BusyError(f"{folder}: {_holder(folder)} is at work there; wait for it, or end it") from None
        with suppress(OSError):
            write_json(folder / HOLDER, {"pid": os.getpid(), "host": socket.gethostname()})
    try:
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        found = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
