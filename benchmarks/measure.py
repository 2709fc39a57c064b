"""Interleaved rounds, ratios inside a round, and how results are written down.

Absolute times mean little on a shared machine. What is compared runs in turn, round after round; a ratio is taken
inside each round, and the median of the rounds is shown with the smallest and the largest.
"""

import json
import os
import platform
import shlex
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mtdnn.cell_folder import versions

REPETITIONS = 7
WIDE = 0.25  # a spread of ratios above which a row is marked
RESULTS = Path(__file__).parent / "results"

Rounds = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Contender:
    """Work that is measured beside other work.

    :param seconds: does the work once and says how long it took.
    :param tokens: real tokens (or rows, where a benchmark counts those) of that work; padding does not count.
    """

    name: str
    seconds: Callable[[], float]
    tokens: int
    precision: str = "fp32"
    sigma: str = ""


@dataclass(frozen=True)
class Row:
    """One line of a results file.

    :param tokens_per_second: median over the rounds; of a memory benchmark, None.
    :param ratio: what :attr:`name` has over what :attr:`ratio_to` has, median over the rounds.
    :param bar: what ``performance.md`` wants of the ratio, where it wants something.
    :param at_most: whether the bar is the largest ratio that meets it, as of memory.
    """

    name: str
    shape: str
    lengths: str
    precision: str
    sigma: str
    tokens_per_second: float | None
    ratio_to: str
    ratio: float
    ratio_min: float
    ratio_max: float
    repetitions: int
    bar: float | None = None
    at_most: bool = False

    @property
    def spread(self) -> float:
        return (self.ratio_max - self.ratio_min) / self.ratio

    @property
    def verdict(self) -> str:
        if self.bar is None:
            return ""
        met = self.ratio <= self.bar if self.at_most else self.ratio >= self.bar
        return f"{self.bar:g}: {'met' if met else 'missed'}"

    def cells(self) -> list[str]:
        rate = "" if self.tokens_per_second is None else f"{self.tokens_per_second:,.0f}"
        spread = f"{self.ratio_min:.2f} - {self.ratio_max:.2f}{' (wide)' if self.spread > WIDE else ''}"
        what = [self.name, self.shape, self.lengths, self.precision, self.sigma, rate]
        return [*what, self.ratio_to, f"{self.ratio:.2f}", spread, self.verdict]


HEADER = ("what", "shape", "lengths", "precision", "sigma", "tokens/s", "over", "ratio", "min - max", "bar")


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """The work with a clock around it, the device's queue emptied."""

    def seconds() -> float:
        synchronize()
        started = time.perf_counter()
        work()
        synchronize()
        return time.perf_counter() - started

    return seconds


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rounds_of(contenders: Sequence[Contender], *, repetitions: int | None = None) -> Rounds:
    """Tokens a second of each contender in each round, after one to warm up; every other one in the opposite order."""
    found: list[dict[str, float]] = []
    for number in range((repetitions or REPETITIONS) + 1):
        order = contenders if number % 2 else list(reversed(contenders))
        found.append({each.name: each.tokens / each.seconds() for each in order})
    return found[1:]


def compared(
    contenders: Sequence[Contender],
    rounds: Rounds,
    pairs: Mapping[tuple[str, str], float | None],
    *,
    shape: str = "",
    lengths: str = "",
    of_time: bool = False,
) -> Iterator[Row]:
    """A row for each pair of names whose two sides were measured, with the bar of its ratio.

    :param of_time: the ratio is of the times that the same work takes, not of the rates.
    """
    by_name = {each.name: each for each in contenders}
    for (name, to), bar in pairs.items():
        if name not in by_name or to not in by_name:
            continue
        ratios = [each[to] / each[name] if of_time else each[name] / each[to] for each in rounds]
        yield Row(
            name=name,
            shape=shape,
            lengths=lengths,
            precision=by_name[name].precision,
            sigma=by_name[name].sigma,
            tokens_per_second=statistics.median(each[name] for each in rounds),
            ratio_to=to,
            ratio=statistics.median(ratios),
            ratio_min=min(ratios),
            ratio_max=max(ratios),
            repetitions=len(rounds),
            bar=bar,
            at_most=of_time,
        )


def machine() -> str:
    """Processor, threads, device, and the versions of what was measured."""
    model = next((line.split(":")[1].strip() for line in cpu_lines() if line.startswith("model name")), "")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    instructions = torch.backends.cpu.get_cpu_capability()  # type: ignore[no-untyped-call]
    found = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"{model or platform.machine()} ({instructions}), {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{device}; {found}"
    )


def cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def table(rows: Sequence[Row]) -> str:
    """Markdown; columns that are empty everywhere are left out."""
    cells = [row.cells() for row in rows]
    kept = [place for place in range(len(HEADER)) if any(row[place] for row in cells)]
    lines = [[HEADER[place] for place in kept], ["---"] * len(kept), *([row[place] for place in kept] for row in cells)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def command(name: str, arguments: Sequence[str] | None) -> str:
    """What to type for a benchmark's run."""
    return shlex.join(["python", "-m", f"benchmarks.{name}", *(arguments or [])])


def write(
    name: str, rows: Sequence[Row], *, command: str, notes: Sequence[str] = (), folder: Path | None = None
) -> None:
    """``<name>.json`` with the rows and ``<name>.md`` with their table, the machine and the command; printed too."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    facts = [f"`{command}`: {machine()}; medians of {rows[0].repetitions} interleaved rounds."] if rows else []
    wide = [f"{row.name} over {row.ratio_to}" for row in rows if row.spread > WIDE]
    if wide:
        facts.append(f"The ratios spread by more than {WIDE:.0%}, for other work ran beside them: {'; '.join(wide)}.")
    text = "\n\n".join([table(rows), *facts, *notes]) + "\n"
    (folder / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
