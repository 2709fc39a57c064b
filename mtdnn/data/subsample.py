"""Fractions and caps of the training data: nested, stratified, the same on every machine.

One order per seed: first one unit of each stratum, then by (rank within the stratum + 1/2) / size of the stratum, with
ranks from SHA-256(seed, uid). A fraction is a prefix of that order.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence
from fractions import Fraction

from mtdnn.errors import DataError


def seeded_order(uids: Sequence[str], strata: Sequence[Hashable], *, seed: int) -> list[int]:
    """Positions of the units in the order whose prefixes are the fractions."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata):
        members[stratum].append(index)
    digest = [hashlib.sha256(f"{seed}\x1f{uid}".encode()).hexdigest() for uid in uids]
    ranked: list[tuple[int, float, str, int]] = []
    for indices in members.values():
        for rank, index in enumerate(sorted(indices, key=lambda i: digest[i])):
            ranked.append((int(rank > 0), (rank + 0.5) / len(indices), digest[index], index))
    return [index for *_, index in sorted(ranked)]


def fraction_size(fraction: float, *, full_size: int | None, available: int, task: str) -> int:
    """How many rows a fraction is: floor(fraction x full_size), and no more than the file holds.

    :param fraction: in (0, 1].
    :param full_size: rows of the full published training split; the rows at hand where it is not stated.
    :raises DataError: when the file does not hold that many, naming the largest possible fraction; or when it is none.
    """
    full = full_size or available
    size = int(Fraction(str(fraction)) * full)
    if size > available:
        raise DataError(
            f"task '{task}': fraction {fraction} of {full} rows is {size}, but the file holds {available}; "
            f"the largest possible fraction is {int(available / full * 1e4) / 1e4}"
        )
    if size < 1:
        raise DataError(f"task '{task}': fraction {fraction} of {full} rows is none; the smallest is {1 / full:.2g}")
    return size


def prefix(order: Sequence[int], rows: Sequence[int], limit: int) -> list[int]:
    """The units of the longest prefix of ``order`` with at most ``limit`` rows in all; at least one unit."""
    chosen: list[int] = []
    total = 0
    for index in order:
        total += rows[index]
        if total > limit and chosen:
            break
        chosen.append(index)
    return chosen
