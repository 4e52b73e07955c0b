"""The wheel holds everything a process needs, and runs from a folder that is not the repo."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

USE_THE_DECODER = """
import cramjam
from collector.contract.samples import SampleDecoder
labels = b"\\x0a\\x0e\\x0a\\x08__name__\\x12\\x02up"
sample = b"\\x12\\x0b\\x09" + bytes(6) + b"\\xf0\\x3f" + b"\\x10\\x05"
series = labels + sample
decoder = SampleDecoder()
samples = decoder.decode(bytes(cramjam.snappy.compress_raw(b"\\x0a" + bytes([len(series)]) + series)))
print(decoder.labels(0), samples.timestamp_ms.tolist(), samples.value.tolist())
"""


@pytest.fixture(scope="module")
def wheel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder


def run(wheel_folder: Path, *arguments: str) -> str:
    installed = wheel_folder / "installed"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=wheel_folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_is_built_for_this_platform(wheel_folder: Path) -> None:
    (wheel,) = wheel_folder.glob("*.whl")
    assert wheel.name.startswith("effective_gpu-")
    assert "-py3-none-" in wheel.name
    assert not wheel.name.endswith("-any.whl")


def test_decoder_of_the_wheel_decodes(wheel_folder: Path) -> None:
    assert run(wheel_folder, "-c", USE_THE_DECODER) == "(('__name__', 'up'),) [5] [1.0]\n"


@pytest.mark.parametrize("package", ["egpu_runtime", "collector", "pipeline", "advisor"])
def test_processes_come_from_the_wheel(wheel_folder: Path, package: str) -> None:
    where = run(wheel_folder, "-c", f"import {package}.__main__ as m; print(m.__file__)").strip()
    assert Path(where).is_relative_to(wheel_folder / "installed")


def test_templates_are_in_the_wheel(wheel_folder: Path) -> None:
    sources = {p.relative_to(ROOT) for p in (ROOT / "advisor").rglob("*.jinja")}
    assert sources
    assert {path for path in sources if not (wheel_folder / "installed" / path).is_file()} == set()
