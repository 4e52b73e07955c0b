"""Whether a built libegpu.so may be put in front of any program: what it needs, exports and does when it is loaded.

check_library.py LIBRARY --glibc 2.17     prints one line; exit 1 with what is wrong
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import generate

LOADER_FUNCTIONS = {"dlsym", "dlvsym", "dlmopen"}
# On musl the library is named differently, but a program for musl has no use for a driver built for glibc.
LIBRARIES = {"libc.so.6", "libdl.so.2", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
CONSTRUCTOR_BYTES_MAX = 8
"""One pointer: the compiler's own frame_dummy. A constructor of ours would run in programs that never use a card."""


def readelf(library: Path, *flags: str) -> str:
    return subprocess.run(["readelf", "-W", *flags, library], check=True, capture_output=True, text=True).stdout


def glibc_needed(library: Path) -> set[tuple[int, ...]]:
    """Versions of glibc symbols the library asks for."""
    found = re.findall(r"GLIBC_(\d+(?:\.\d+)+)", readelf(library, "--version-info"))
    return {tuple(int(part) for part in version.split(".")) for version in found}


def exports(library: Path) -> set[str]:
    """Names of defined functions and objects that others can bind to."""
    names = set()
    for line in readelf(library, "--dyn-syms").splitlines():
        words = line.split()
        if len(words) >= 8 and words[4] in ("GLOBAL", "WEAK") and words[6] not in ("UND", "Ndx"):
            names.add(words[7].partition("@")[0])
    return names


def wrong(library: Path, glibc: tuple[int, ...], pending: set[str]) -> list[str]:
    """What forbids to ship it. `pending`: wrappers nobody has written yet."""
    rows = generate.symbols() + generate.nvml_functions()
    wanted = {row.name for row in rows if row.action in ("WRAP", "RESOLVE", "DENY")} - pending | LOADER_FUNCTIONS
    found, dynamic = exports(library), readelf(library, "-d")
    problems = [f"exports {name}" for name in sorted(found - wanted)]
    problems += [f"does not export {name}" for name in sorted(wanted - found)]
    problems += [f"needs GLIBC_{'.'.join(map(str, v))}" for v in sorted(glibc_needed(library)) if v > glibc]
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    problems += [f"needs the library {name}" for name in sorted(needed - LIBRARIES)]
    constructors = re.search(r"\(INIT_ARRAYSZ\)\s+(\d+)", dynamic)
    if constructors and int(constructors[1]) > CONSTRUCTOR_BYTES_MAX:
        problems.append(f"runs {int(constructors[1]) // 8} constructors")
    if "SYMBOLIC" not in dynamic:
        problems.append("is not linked -Bsymbolic: its own calls could be caught by another library")
    if "TEXTREL" in dynamic:
        problems.append("has text relocations")
    return problems


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="whether libegpu.so may be preloaded everywhere")
    parser.add_argument("library", type=Path)
    parser.add_argument("--glibc", default="2.17")
    given = parser.parse_args(arguments)
    pending = set((given.library.parent / "pending.txt").read_text().split())
    problems = wrong(given.library, tuple(int(part) for part in given.glibc.split(".")), pending)
    machine = re.search(r"Machine:\s+(.*)", readelf(given.library, "-h"))
    newest = ".".join(map(str, max(glibc_needed(given.library), default=(0,))))
    print(f"{given.library}: {machine[1] if machine else '?'}, GLIBC_{newest} at most, {len(problems)} problems")
    for problem in problems:
        print(f"  {problem}")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
