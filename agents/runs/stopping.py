"""Ctrl-C, and a cluster's request to end: a run stops where its state is whole, and saves it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO = 0.5  # Seconds: a scheduler and a parent process may pass on one and the same signal.
NOTE = b"\nStopping with a checkpoint, as soon as there can be one; once more stops at once.\n"


class StoppedError(KeyboardInterrupt):
    """A run was stopped, and its message says where it goes on from."""


class StopRequest:
    """Whether a run was asked to stop.

    Attributes:
        is_made: Whether it was.
    """

    def __init__(self) -> None:
        self.is_made = False
        self._made_at = 0.0

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal: the first one is a request, the next one an interruption."""
        if self.is_made:
            if time.monotonic() - self._made_at < ECHO:
                return
            raise KeyboardInterrupt
        self.is_made, self._made_at = True, time.monotonic()
        os.write(2, NOTE)  # Printing is not safe here.


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Takes SIGINT and SIGTERM in the block as a request to stop; in the main thread alone."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.take) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_stop(folder: Path, timesteps: int) -> str:
    """What a run that was stopped says."""
    return (
        f"Stopped at {timesteps} timesteps, which are saved in {folder}: the same command goes on "
        "from there."
    )
