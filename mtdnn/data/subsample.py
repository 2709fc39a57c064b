"""Fractions and caps of the training data: nested, stratified, the same on every machine.

One order per seed: first one unit of each stratum, then by (rank within the stratum + 1/2) / size of the stratum, with
ranks from SHA-256(seed, uid). A fraction is a prefix of that order.
"""

import hashlib
from collections.abc import Hashable, Iterable
from fractions import Fraction

import numpy as np

from mtdnn.errors import DataError

DIGEST = np.dtype([("a", ">u8"), ("b", ">u8"), ("c", ">u8"), ("d", ">u8")])  # SHA-256 as four numbers


def seeded_order(uids: Iterable[str], strata: Iterable[Hashable], *, seed: int) -> np.ndarray:
    """Positions of the units in the order whose prefixes are the fractions."""
    digests = bytearray()
    for uid in uids:
        digests += hashlib.sha256(f"{seed}\x1f{uid}".encode()).digest()
    digest_U = np.frombuffer(digests, DIGEST)
    by_digest = [digest_U[name] for name in reversed(DIGEST.names or ())]
    numbers: dict[Hashable, int] = {}
    stratum_U = np.fromiter((numbers.setdefault(each, len(numbers)) for each in strata), np.int64, len(digest_U))
    size_S = np.bincount(stratum_U)
    sorted_U = np.lexsort((*by_digest, stratum_U))
    rank_U = np.empty(len(digest_U), np.int64)
    rank_U[sorted_U] = np.arange(len(digest_U)) - np.repeat(np.cumsum(size_S) - size_S, size_S)
    place_U = (rank_U + 0.5) / size_S[stratum_U]
    return np.lexsort((*by_digest, place_U, rank_U > 0))


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


def prefix(order: np.ndarray, rows: np.ndarray, limit: int) -> np.ndarray:
    """The units of the longest prefix of ``order`` with at most ``limit`` rows in all; at least one unit."""
    return order[: max(1, int(np.searchsorted(np.cumsum(rows[order]), limit, side="right")))]
