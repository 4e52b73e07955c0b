"""Processes of a test, which end with it."""

from __future__ import annotations

import subprocess
from types import TracebackType


class Child(subprocess.Popen[str]):
    """For `with`: at the end of the block it is waited for; when the block failed it is killed first, for a test that
    failed has no answer to wait for."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, trace)
