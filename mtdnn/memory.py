"""How much memory there is, how much was used, and what is told when it runs out."""

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from mtdnn.data.batch import Batch
from mtdnn.errors import ConfigError, MemoryExceededError

STATUS, CLEAR, MEMINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
CLEAR_PEAK = "5"  # proc(5): resets the peak resident set size
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
NOT_ALLOCATED = (
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
    "std::bad_alloc",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def free_bytes(device: torch.device) -> int:
    """What this process can have: what it has, and what is free beside it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return _kilobytes(MEMINFO, "MemAvailable") + _kilobytes(STATUS, "VmRSS")


def peak_bytes(device: torch.device) -> int:
    """The most that this process has had since :func:`forget_peak`: resident, or allocated on the GPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _kilobytes(STATUS, "VmHWM")


def forget_peak(device: torch.device) -> None:
    """Begin to measure anew; where the system does not allow that, the peak stays that of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        CLEAR.write_text(CLEAR_PEAK)


def _kilobytes(path: Path, name: str) -> int:
    """A line of the kernel's, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text(), flags=re.MULTILINE) if path.is_file() else None
    if found is None:
        raise ConfigError(f"{path} does not tell {name}: memory of a CPU is measured on Linux alone; take a GPU")
    return 1024 * int(found[1])


def parse_bytes(text: str, *, option: str) -> int:
    """``2GB``, ``1500 MB`` (powers of 1000) or a number of bytes; ConfigError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B)?", text.strip().upper())
    if found is None or float(found[1]) == 0:
        raise ConfigError(f"{option} {text}: expected a number above 0 with B, KB, MB, GB or TB, for example 2GB")
    return round(float(found[1]) * UNITS[found[2] or "B"])


def shown_bytes(count: float) -> str:
    return f"{count / 10**9:.2f} GB"


@contextmanager
def memory_for(batches: Sequence[Batch], *, doing: str) -> Iterator[None]:
    """While entered, memory that is not there is a :class:`MemoryExceededError` that tells the batches.

    What the failed computation held is let go.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)
        told = "; ".join(map(described, batches))
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise MemoryExceededError(
            f"out of memory while {doing} {told} ({reason}). Earlier checkpoints are kept. With train."
            "activation_checkpointing: true the run goes on where it was; a smaller train.batch_size with more "
            "train.accumulate begins anew. `mtdnn doctor` measures what fits"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: on a GPU, in torch on the CPU, or in Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(text in str(error) for text in NOT_ALLOCATED)


def described(batch: Batch) -> str:
    """Its task, and its size: every row padded to the longest."""
    rows, length = batch.mask_NT.shape
    return f"task '{batch.task}', {rows} rows x {length} tokens"
