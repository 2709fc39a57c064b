"""SIGINT and SIGTERM: the first ends a run at the next place where nothing is lost, a second one at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal ended the work; no error, so that what handles errors lets it pass."""

    def __init__(self, number: int, text: str = ""):
        name = signal.Signals(number).name
        super().__init__(text or f"stopped by {name}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell has it: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


class Interruptions:
    """What signals this process got.

    :ivar received: the first one's number; None before.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._later = False

    @contextmanager
    def caught(self, *, ignored: tuple[int, ...] = ()) -> Iterator[None]:
        """While entered, a signal raises :class:`Interrupted`, or is kept inside :meth:`later`.

        :param ignored: signals that another process will send as another one.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # Python gives signals to the main thread alone
            return
        self.received, before = None, {number: signal.getsignal(number) for number in CAUGHT}
        for number in CAUGHT:
            signal.signal(number, signal.SIG_IGN if number in ignored else self._note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def later(self) -> Iterator[None]:
        """While entered, the first signal is only kept, for :meth:`check`."""
        before, self._later = self._later, True
        try:
            yield
        finally:
            self._later = before

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """While entered, also inside :meth:`later`, a signal raises; one that was kept does so now."""
        before, self._later = self._later, False
        try:
            self.check()
            yield
        finally:
            self._later = before

    def check(self) -> None:
        """Raise :class:`Interrupted` when a signal was kept."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        if not self._later:
            self.check()


interruptions = Interruptions()
