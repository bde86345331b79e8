"""A process that is known, held by a pidfd: so that it need not be looked for again while it lives."""

from __future__ import annotations

import os
import select

from watchdog.model import Epoch
from watchdog.target.process import check_alive
from watchdog.target.words import Gone


class Held:
    """One life of a process, or none. `close` it."""

    def __init__(self) -> None:
        self._epoch: Epoch | None = None
        self._pidfd = -1
        self._poll = select.poll()

    def alive(self) -> Epoch | None:
        """The life that is held, while it goes on; else None."""
        # A pidfd is readable once its process has ended (pidfd_open(2)), also before anybody reaps it.
        return self._epoch if self._epoch is not None and not self._poll.poll(0) else None

    def keep(self, epoch: Epoch) -> None:
        """Hold this life; nothing is held where it has ended meanwhile."""
        self.close()
        try:
            self._pidfd = os.pidfd_open(epoch.pid)
            check_alive(epoch)  # the descriptor is of this life, not of a later one
        except (OSError, Gone):
            self.close()
            return
        self._poll.register(self._pidfd, select.POLLIN)
        self._epoch = epoch

    def close(self) -> None:
        """Let go of it."""
        if self._epoch is not None:
            self._poll.unregister(self._pidfd)
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._epoch, self._pidfd = None, -1
