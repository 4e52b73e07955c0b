"""Memory when the driver fails, is an old one, or may move it: the same answers, and nothing stays charged."""

from __future__ import annotations

import subprocess
from pathlib import Path

import building
import generate
import pytest
from containers import CONTEXT_MIB, MIB, Container, Maker, go_on, until_it_waits

OLD_VERSION = 10020
"""Functions that are newer are not in the old driver."""
ALLOCATIONS = "alloc:4M managed:4M async:4M vmm:4M array:1024:1024 pitch:4096:1024 array3d:128:128:64 mipmap:512:512:2"
LOST = "alloc:4M async:4M spin:3 alloc:4M array:64:64 vmm:4M async:4M free:0 free:1 managed:4M sync"


def check(given: Container, script: str) -> None:
    """Answers with the hook what it answers without; at the end nothing is charged."""
    plain, _ = given.run(f"context {script}", hooked=False)
    said, errors = given.run(f"context {script}")
    assert said == plain, errors
    assert given.charged_mib() == 0


@pytest.mark.parametrize("place", range(1, 11))
def test_the_nth_allocation_fails(tmp_path: Path, place: int) -> None:
    container = Maker(tmp_path, "13.0")()
    container.extra["EGPU_SIM_FAULT"] = f"oom:{place}"
    check(container, ALLOCATIONS)
    with container.start(f"context {ALLOCATIONS} wait {' '.join(f'free:{n}' for n in range(8))} wait") as process:
        until_it_waits(process)
        go_on(process)
        until_it_waits(process)
        assert container.classes() == {"context": CONTEXT_MIB * MIB}
        process.communicate()


@pytest.mark.parametrize("place", range(1, 4))
@pytest.mark.parametrize("fault", ["launch", "lost"])
def test_the_device_fails(tmp_path: Path, fault: str, place: int) -> None:
    container = Maker(tmp_path, "13.0")()
    container.extra["EGPU_SIM_FAULT"] = f"{fault}:{place}"
    check(container, LOST)


@pytest.mark.parametrize(("device", "oversubscription"), [(0, False), (1, False), (0, True), (1, True)])
def test_what_is_said_about_memory(tmp_path: Path, device: int, oversubscription: bool) -> None:
    container = Maker(tmp_path, "13.0")(device=device, oversubscription=oversubscription)
    said, errors = container.run("context alloc:1M async:1M pitch:1024:64 pointer:0 pointer:1 pointer:2")
    attributes = f"2 0 {device} 0 2 0 {device} advise 1 handle"
    shared, pooled = (801, 801) if oversubscription else (0, 1)
    assert said.split("; ")[5:] == [f"pointer {attributes} {code}" for code in (shared, pooled, shared)], errors


@pytest.fixture(scope="module")
def old_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulated driver, linked anew with the functions of an old one."""
    folder, built = tmp_path_factory.mktemp("old"), building.driver("12.8").parent
    names = [row.name for row in generate.symbols() if row.version <= OLD_VERSION]
    (folder / "old.map").write_text(f"{{ global: egpuSim*; {' '.join(f'{name};' for name in names)} local: *; }};")
    objects = [str(path) for path in built.glob("*.o") if not path.name.startswith("nvml")]
    objects += [str(path) for path in (built / "12.8").glob("*.o")]
    flags = ["-shared", "-Wl,-Bsymbolic", "-Wl,-soname,libcuda.so.1", f"-Wl,--version-script={folder / 'old.map'}"]
    command = ["gcc", *flags, *objects, "-o", str(folder / "libcuda.so.1"), "-pthread", "-ldl"]
    subprocess.run(command, check=True, timeout=building.BUILD_SECONDS_MAX)
    (folder / "libnvidia-ml.so.1").symlink_to(built / "12.8/libnvidia-ml.so.1")
    return folder


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("context alloc:65M alloc:64M alloc:1 info", "context 0; alloc 2; alloc 0; alloc 2; info 0 0 364M"),
        ("context managed:65M pitch:1M:65 vmm:66M", "context 0; managed 2; pitch 2; vmm 2"),
        ("context vmm:64M free:0 alloc:64M", "context 0; vmm 0; free 0; alloc 0"),
        ("context array:4096:4097 array:4096:4096 alloc:1", "context 0; array 2; array 0; alloc 2"),
        ("context async:1M", "context 0; async 801"),
        ("context alloc:64M destroy context alloc:64M", "context 0; alloc 0; destroy 0; context 0; alloc 0"),
        ("retain alloc:64M leave retain alloc:64M", "retain 0; alloc 0; leave 0; retain 0; alloc 0"),
        ("retain retain leave leave leave", "retain 0; retain 0; leave 0; leave 0; leave 201"),
    ],
)
def test_the_quota_on_an_old_driver(old_driver: Path, tmp_path: Path, script: str, expected: str) -> None:
    container = Maker(tmp_path, "12.8")()
    container.extra["LD_LIBRARY_PATH"] = str(old_driver)
    said, errors = container.run(script)
    assert said == f"init 0; {expected}", errors
    assert container.charged_mib() == 0
