"""What the tests of Hive share: how a process is run, and ports that are free."""

import socket
import subprocess
from collections.abc import Callable

Command = Callable[..., subprocess.CompletedProcess[str]]
"""``command("pipeline", "report", ...)``: the real process, to its end."""


def free_port_base() -> int:
    """A hundred ports of which the first fifty are free now."""

    def is_free(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    return next(base for base in range(46_200, 49_000, 100) if all(map(is_free, range(base, base + 50))))
