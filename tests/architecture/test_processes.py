"""Each process starts from an environment that holds only what its extra names, and `pip install` of nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = {
    "runtime": ("egpu_runtime", ["replay", "--help"]),
    "collector": ("collector", ["serve", "--help"]),
    "pipeline": ("pipeline", ["run", "--help"]),
    "advisor": ("advisor", ["scan", "--help"]),
}


def requirements_of(owner: Distribution, extra: str) -> Iterable[Requirement]:
    for text in owner.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement


def key(name: str) -> str:
    return name.lower().replace("_", "-")


def closure(extra: str) -> dict[str, Distribution]:
    """Distributions that `pip install effective-gpu[extra]` would bring, by name."""
    found: dict[str, Distribution] = {}
    wanted = list(requirements_of(distribution("effective-gpu"), extra))
    while wanted:
        requirement = wanted.pop()
        owner = found.setdefault(key(requirement.name), distribution(requirement.name))
        for inner in sorted(requirement.extras) or [""]:
            wanted += [needed for needed in requirements_of(owner, inner) if key(needed.name) not in found]
    return found


def environment_of(extra: str, folder: Path) -> Path:
    """A folder of links to exactly those distributions' files, and to our packages."""
    for owner in closure(extra).values():
        for file in owner.files or []:
            top = file.parts[0]
            link = folder / top
            if top not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(Path(str(owner.locate_file(top))))
    for package in ("egpu_runtime", "collector", "pipeline", "advisor"):
        (folder / package).symlink_to(ROOT / package)
    return folder


@pytest.mark.parametrize("extra", PROCESSES)
def test_process_starts_with_only_its_extra(extra: str, tmp_path: Path) -> None:
    package, arguments = PROCESSES[extra]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(environment_of(extra, tmp_path))}
    # -S leaves out site-packages: what is not in the folder is not there.
    done = subprocess.run(
        [sys.executable, "-S", "-m", package, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_nothing_is_required_without_an_extra() -> None:
    assert list(requirements_of(distribution("effective-gpu"), "")) == []
