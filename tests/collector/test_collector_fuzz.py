"""The C code on mutated bodies under AddressSanitizer and UndefinedBehaviorSanitizer."""

import os
import subprocess
from pathlib import Path

import pytest
from collector_bodies import STALE_BITS, label, message, sample, series, up

SOURCES = Path(__file__).resolve().parents[2] / "collector" / "contract"
HARNESS = Path(__file__).with_name("fuzz_samples.c")
SEEDS = {
    "empty": b"",
    "plain": b"".join(up(number, (1000 + number, 1.5)) for number in range(12)),
    "many": b"".join(up(number, (1, 1.0)) for number in range(150)),
    "stale": message(1, label("__name__", "up") + sample(5, STALE_BITS) + sample(6, 0)),
    "kinds": message(1, label("__name__", "up") + message(3, b"\x18\x07") + message(4, b"\x78\x09")) + message(3, b"x"),
    "unsorted": series({"z": "1", "__name__": "a", "ä": "b", "utf8": "ä€\U0001f600"}, (1, 1.0)),
    "refused": series({"a": "b"}, (1, 1.0)) + up(1, (1 << 40, 1.0), (2, 2.0)) + series({"__name__": "up"}),
    "late": message(1, sample(1, 0) + label("__name__", "up") + sample(2, 0) + label("a", "b")),
    "labels": series({"__name__": "up", **{f"label_{number}": "x" for number in range(12)}}, (1, 1.0)),
}


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("fuzz") / "fuzz_samples"
    flags = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, *flags, "-fno-sanitize-recover=all", f"-I{SOURCES}", "-o", str(program), str(HARNESS)], check=True
    )
    return program


@pytest.mark.parametrize("seed", [1, 20_240_607])
def test_no_body_reads_or_writes_out_of_bounds(harness: Path, tmp_path: Path, seed: int) -> None:
    files = []
    for name, body in SEEDS.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(body)
    done = subprocess.run(
        [str(harness), "20000", str(seed), *map(str, files)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
