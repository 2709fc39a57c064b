"""TensorBoard events of a run, where TensorBoard is installed."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Events:
    """Scalars by optimizer step. Writes nothing outside :meth:`open`, or where TensorBoard is not installed.

    :param folder: where the events go; None for none.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.writer: Any = None

    @contextmanager
    def open(self, *, step: int) -> Iterator[None]:
        """While entered, scalars are written; what an earlier run left from ``step`` on no longer counts."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            yield
            return
        if self.folder is None:
            yield
            return
        while any(self.folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            time.sleep(0.05)  # a reader takes the files in the order of their names, which have whole seconds
        with SummaryWriter(str(self.folder), purge_step=step) as self.writer:
            yield
        self.writer = None

    def scalars(self, group: str, values: Mapping[str, float], *, step: int) -> None:
        """Write ``<group>/<name>`` for each value."""
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{group}/{name.replace(' ', '_')}", value, step)
