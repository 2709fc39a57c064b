"""Lists of different lengths in two arrays: a million of them cost a few bytes each.

Shape suffixes: U = lists, V = the values of all of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

CHUNK = 4096  # lists that are Python objects at a time


@dataclass(frozen=True, eq=False)
class Ragged(Sequence[Any]):
    """List u is ``values_V[starts_U[u] : stops_U[u]]``."""

    values_V: np.ndarray
    starts_U: np.ndarray
    stops_U: np.ndarray

    @classmethod
    def of(cls, lists: Iterable[Any], *, dtype: Any) -> "Ragged":
        values: list[np.ndarray] = [np.empty(0, dtype)]
        sizes: list[np.ndarray] = [np.empty(0, np.int64)]
        for chunk in _chunks(lists):
            sizes.append(np.fromiter(map(len, chunk), np.int64, len(chunk)))
            values.append(np.fromiter((value for each in chunk for value in each), dtype, int(sizes[-1].sum())))
        return cls.of_sizes(np.concatenate(values), np.concatenate(sizes))

    @classmethod
    def of_sizes(cls, values_V: np.ndarray, sizes_U: np.ndarray) -> "Ragged":
        stops_U = np.cumsum(sizes_U)
        return cls(values_V, stops_U - sizes_U, stops_U)

    def __len__(self) -> int:
        return len(self.starts_U)

    def __getitem__(self, index: Any) -> Any:
        return self.values_V[self.starts_U[index] : self.stops_U[index]].tolist()

    def __iter__(self) -> Iterator[list[Any]]:
        for start in range(0, len(self), CHUNK):
            bounds = (each[start : start + CHUNK].tolist() for each in (self.starts_U, self.stops_U))
            for first, last in zip(*bounds, strict=True):
                yield self.values_V[first:last].tolist()

    @property
    def sizes_U(self) -> np.ndarray:
        return np.asarray(self.stops_U - self.starts_U)

    def select(self, indices: np.ndarray) -> "Ragged":
        return Ragged(self.values_V, self.starts_U[indices], self.stops_U[indices])

    def any(self, chosen_V: np.ndarray) -> np.ndarray:
        """Whether one of each list's values is chosen: (U,), bool."""
        before_V = np.concatenate([[0], np.cumsum(chosen_V)])
        return np.asarray(before_V[self.stops_U] > before_V[self.starts_U])


def of_arrow(column: pa.ChunkedArray, values: Any) -> Ragged:
    """A column of lists; ``values`` makes an array of numbers of the values of a chunk."""
    found = [values(chunk.flatten()) for chunk in column.chunks]
    sizes = [list_sizes(chunk) for chunk in column.chunks]
    return Ragged.of_sizes(np.concatenate(found), np.concatenate(sizes))


def list_sizes(chunk: pa.ListArray) -> np.ndarray:
    """How many values each list has."""
    return np.diff(chunk.offsets.to_numpy())


def hexadecimal(texts: pa.StringArray) -> np.ndarray:
    """Texts of 16 hexadecimal digits as the numbers that they are, in the same order: uint64."""
    size = 16 * len(texts)
    start = 16 * texts.offset
    digits = texts.buffers()[2].slice(start, size).to_pybytes() if size else b""
    return np.frombuffer(bytes.fromhex(digits.decode()), ">u8").astype(np.uint64)


def _chunks(lists: Iterable[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for each in lists:
        chunk.append(each)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
