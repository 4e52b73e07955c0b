"""The real process, killed by SIGKILL at its N-th step on disk: ``pipeline_killed.py N before|after ARGUMENTS...``.

A step is a rename (a data file, a manifest, the late notes or the checkpoint gets its name). ``before`` dies with the
new file written beside the old one, ``after`` with the rename done and nothing that follows it.
"""

import os
import signal
import sys
from pathlib import Path

from pipeline.__main__ import app
from pipeline.contract.tables import DATA_FILE, MANIFEST_FILE

OUTPUTS = (DATA_FILE, MANIFEST_FILE, "checkpoint.json")


def main() -> None:
    steps_left, when = int(sys.argv[1]), sys.argv[2]
    rename = Path.rename

    def counted(self: Path, target: str | Path) -> Path:
        nonlocal steps_left
        if Path(target).name not in OUTPUTS:
            return rename(self, target)
        steps_left -= 1
        if steps_left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = rename(self, target)
        if steps_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Path.rename = counted  # type: ignore[method-assign]
    app(args=sys.argv[3:], standalone_mode=False)


if __name__ == "__main__":
    main()
