"""The folder of a job's retained checkpoints and savepoints, where this machine can look into it.

Layout, which is Flink's but for the first folder: ``DIGEST/JOB_ID/chk-N`` and ``DIGEST/savepoints/savepoint-*``. One is
complete when its ``_metadata`` is there: Flink writes that last, and renames it into place.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from egpu_runtime.contract.process import Failure

SAVEPOINTS: Final = "savepoints"
_METADATA: Final = "_metadata"


@dataclass(frozen=True, slots=True)
class Retained:
    """A checkpoint or savepoint on disk: its path as Flink takes it, which SQL and jar made it, when (ms UTC)."""

    path: str
    digest: str
    time_ms: int


def local_folder(address: str) -> Path | None:
    """The folder an address of Flink's stands for, None where it is on another machine's or an object store."""
    parts = urlsplit(address)
    if parts.scheme == "":
        return Path(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def newest(address: str) -> Retained | None:
    """The newest complete checkpoint or savepoint below an address, of whatever digest; None where there is none.

    Raises Failure where the address cannot be looked into from here.
    """
    folder = local_folder(address)
    if folder is None:
        raise Failure(
            f"cannot look for checkpoints in {address} from here: name the one to start from with --from, or start "
            "from the log's beginning with --fresh"
        )
    try:
        found = [*folder.glob(f"*/*/chk-*/{_METADATA}"), *folder.glob(f"*/{SAVEPOINTS}/*/{_METADATA}")]
        retained = [
            Retained(
                f"file://{file.parent.absolute()}",
                file.relative_to(folder).parts[0],
                file.stat().st_mtime_ns // 1_000_000,
            )
            for file in found
        ]
    except OSError as error:
        raise Failure(f"cannot look for checkpoints in {folder}: {error.strerror}") from error
    return max(retained, key=lambda each: (each.time_ms, each.path), default=None)
