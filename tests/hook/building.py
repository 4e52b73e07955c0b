"""The hook, the simulated driver and C clients, built once a test run; several processes may ask at the same time."""

from __future__ import annotations

import fcntl
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOOK = ROOT / "hook"
DRIVER = ROOT / "tests/hook/driver"
CLIENTS = ROOT / "tests/hook/clients"
CLIENT_BUILD = DRIVER / "build/clients"
CUDA_VERSIONS = ("12.8", "13.0")
BUILD_SECONDS_MAX = 600

# The scripts of hook/ are imported by their tests; hook/ is no package.
sys.path.append(str(HOOK))


def cache() -> Path:
    """Where downloads are kept; the Makefile names it, and without it the user's cache folder is taken."""
    return Path(os.environ.get("EGPU_CACHE") or Path.home() / ".cache/effective-gpu")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, *words: str) -> None:
    with _locked(folder / "build"):
        command = ["make", "-s", "-j2", "-C", str(folder), *words]
        result = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX)
        assert result.returncode == 0, result.stdout + result.stderr


@functools.cache
def hook() -> Path:
    """libegpu.so, as gcc builds it."""
    _make(HOOK)
    return HOOK / "build/libegpu.so"


@functools.cache
def sanitized_hook(kind: str) -> Path:
    """libegpu.so built with sanitizers: `address,undefined` or `thread`."""
    folder = f"build/{kind.partition(',')[0]}"
    _make(HOOK, f"BUILD={folder}", f"SANITIZE={kind}", "CFLAGS=-O1 -g")
    return HOOK / folder / "libegpu.so"


@functools.cache
def driver(cuda: str = "13.0") -> Path:
    """The folder with libcuda.so.1 and libnvidia-ml.so.1 of a CUDA version, for LD_LIBRARY_PATH."""
    _make(DRIVER)
    return DRIVER / "build" / cuda


@functools.cache
def sanitized_driver(kind: str, cuda: str) -> Path:
    """The folder of `driver`, built with sanitizers. Without warnings: with sanitizers gcc 12 has some of its own."""
    folder = f"build/{kind.partition(',')[0]}"
    _make(DRIVER, f"BUILD={folder}", f"CFLAGS=-O1 -g -w -fno-omit-frame-pointer -fsanitize={kind}")
    return DRIVER / folder / cuda


@functools.cache
def driver_by(compiler: str, machine: str, cuda: str = "13.0") -> Path:
    """The folder of `driver`, by a compiler for another machine; its warnings are not ours."""
    folder = f"build/{machine}"
    _make(DRIVER, f"BUILD={folder}", f"CC={compiler}", "CFLAGS=-O2 -g0 -w")
    return DRIVER / folder / cuda


@functools.cache
def client(name: str, *flags: str, cuda: str = "13.0") -> Path:
    """A program of tests/hook/clients/NAME.c; with `-shared` a library. `-lcuda` and `-lnvidia-ml` link the
    simulated ones."""
    folder, source = driver(cuda), CLIENTS / f"{name}.c"
    shared = "-shared" in flags
    kind = "".join(f".{flag.partition('=')[2]}" for flag in flags if flag.startswith("-fsanitize="))
    target = CLIENT_BUILD / (f"lib{name}.so" if shared else f"{name}{kind}")
    simulated = {"-lcuda": folder / "libcuda.so.1", "-lnvidia-ml": folder / "libnvidia-ml.so.1"}
    libraries = [str(simulated[flag]) for flag in flags if flag in simulated]
    command = [
        "gcc",
        "-std=gnu11",
        "-O2",
        "-g",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{HOOK / 'src'}",
        f"-I{DRIVER / 'build'}",
    ]
    command += ["-fPIC" if shared else "-fPIE", "-pthread", *[flag for flag in flags if flag not in simulated]]
    with _locked(CLIENT_BUILD):
        fresh = target.with_name(f"{target.name}.{os.getpid()}")
        subprocess.run(
            [*command, str(source), "-o", str(fresh), *libraries, "-ldl"], check=True, timeout=BUILD_SECONDS_MAX
        )
        fresh.replace(target)
    return target
