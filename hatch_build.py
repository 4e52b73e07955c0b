"""Builds the C decoder: as hatchling's build hook for a wheel, as a script in place for a checkout.

``python hatch_build.py`` compiles when a source is newer than the library. No Python headers are
needed: the library is plain C and is called through ctypes, so one wheel serves every Python 3 of a platform.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path(__file__).resolve().parent / "collector" / "contract"
SOURCES = ("samples.c", "check.c", "split.c")
HEADERS = ("samples.h",)
LIBRARY = "libsamples.so"
FLAGS = ("-O3", "-fPIC", "-shared", "-std=c11", "-Wall", "-Wextra", "-Werror")


def build() -> Path:
    """Compile with ``$CC`` (default cc) when needed; returns the library. Raises CalledProcessError or OSError."""
    library = FOLDER / LIBRARY
    sources = [FOLDER / name for name in SOURCES]
    newest = max(path.stat().st_mtime for path in (*sources, *(FOLDER / name for name in HEADERS)))
    if library.exists() and library.stat().st_mtime > newest:
        return library
    # Built beside and renamed: a process that has the old library mapped keeps it whole.
    fresh = library.with_suffix(f".{os.getpid()}.so")
    compiler = shlex.split(os.environ.get("CC", "cc"))
    subprocess.run([*compiler, *FLAGS, "-o", str(fresh), *map(str, sources)], check=True)
    fresh.replace(library)
    return library


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts the built library into the wheel and names the platform it was built for."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects files; an editable install gets the library in place."""
        del version
        if self.target_name != "wheel":
            return
        library = build()
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(f"/collector/contract/{library.name}")


if __name__ == "__main__":
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as failure:
        sys.exit(f"error: the decoder was not built: {failure}")
