"""Waiting for what happens by itself in another process: long enough for a busy machine."""

import time
from collections.abc import Callable

SECONDS_MAX = 180.0


def wait_for(condition: Callable[[], bool], what: str = "the condition", *, seconds: float = SECONDS_MAX) -> None:
    """Return once ``condition()`` holds; fail after so many seconds, naming what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds:.0f} s: {what}"
        time.sleep(0.05)
